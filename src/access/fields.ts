import type { Action } from './policy.ts';

/** A field that tells more than whoever sees its object may know. */
export interface GuardedField {
  /** Who may do this, on everything, is told. */
  readonly action: Action;
  /** What others get: nothing, or a list with nothing in it. */
  readonly otherwise: null | readonly [];
}

const production = { action: 'readProduction', otherwise: null } as const;
const backups = { action: 'readBackups', otherwise: null } as const;

/** All of them, as `Type.field`; every other field is told with its object. The server holds it, and so do the tests. */
export const guardedFields: Readonly<Record<string, GuardedField>> = {
  'File.replicas': { ...production, otherwise: [] },
  'File.replicaChecks': { ...production, otherwise: [] },
  'File.owedStores': { ...backups, otherwise: [] },
  'Run.production': production,
  'MassStore.root': backups,
  'MassStore.detail': backups,
  'MassStore.lastTest': backups,
  'MassStore.copyCount': backups,
  'MassStore.waitingCount': backups,
  'Incident.scope': { action: 'readIncidents', otherwise: null },
  'Incident.table': { action: 'readIncidents', otherwise: null },
  'IncidentItem.place': { action: 'readIncidents', otherwise: null },
  'IncidentItem.path': { action: 'readIncidents', otherwise: null },
  'IncidentItem.lastError': { action: 'readIncidents', otherwise: null },
  'IncidentItem.evidence': { action: 'readIncidents', otherwise: null },
};

const ownPart = 'an owner: of the part about his datasets';
const seenPart = `${ownPart}; production: without files that are private to others`;

/** What is about their viewer, or counts over what he sees: two people may be told different things. */
export const variedFields: Readonly<Record<string, string>> = {
  'Dataset.sharedWith': 'told to its owner and operators; to others it is empty',
  'Event.facts':
    'of INCIDENT_STATUS to production: no counts, which hold files that are private to others',
  'Incident.itemCount': seenPart,
  'Incident.lostCount': seenPart,
  'Incident.openCount': seenPart,
  'Incident.recoverableCount': seenPart,
  'Incident.restoredCount': seenPart,
  'Incident.safeCount': seenPart,
  'Incident.stillLostCount': seenPart,
  'Incident.datasetCount': ownPart,
  'Incident.markedDatasetCount': ownPart,
  'Incident.hiddenDatasetCount': ownPart,
  'Query.totals':
    'production: all files, without those that are private to others; others: those that are published',
  'Query.viewer': 'who asks',
  'Webhook.url': 'to its owner; to operators only the server that it names',
};

/** All that is told of a run in production, to whom production is no business of his. */
export const toldOfRunInProduction: readonly string[] = [
  'id',
  'number',
  'source',
  'productionStatus',
];

/** How somebody comes to see an object. */
export type Sight =
  /** By the rule of its noun: access/visibility.ts. */
  | 'ITS_NOUN'
  /** With the object or the answer that it stands in. */
  | 'ITS_PARENT'
  /** Everybody sees every one. */
  | 'EVERYBODY'
  /** Who may do this; `own`: his own. */
  | Action;

/** Every object type of the schema, but the roots, connections and edges, which show what is seen of their nodes. */
export const sights: Readonly<Record<string, Sight>> = {
  AccessUrl: 'ITS_PARENT',
  AuditEntry: 'readAuditTrail',
  AuditFinding: 'testStores',
  BackupPolicy: 'readBackups',
  BackupProgress: 'readBackups',
  BackupRecord: 'ITS_NOUN',
  BackupRequestResult: 'backUp',
  BadDatasets: 'readStuck',
  BadMark: 'ITS_PARENT',
  ConfirmReplicaPayload: 'confirmReplica',
  Container: 'EVERYBODY',
  ContainerChange: 'ITS_PARENT',
  ContainerDelta: 'ITS_PARENT',
  ContainerEvent: 'EVERYBODY',
  ContainerMember: 'ITS_NOUN',
  ContainerOrigin: 'ITS_PARENT',
  ContainerPayload: 'changeContainer',
  ContainerTotals: 'ITS_PARENT',
  CreateDatasetPayload: 'createDataset',
  CreateTokenPayload: 'manageTokens',
  CreateWebhookPayload: 'manageWebhooks',
  Dataset: 'ITS_NOUN',
  DatasetOrigin: 'ITS_PARENT',
  DatasetPayload: 'changeDataset',
  DatasetRun: 'ITS_NOUN',
  DatasetRunTotals: 'ITS_PARENT',
  DatasetShare: 'ITS_PARENT',
  DatasetStatusEvent: 'ITS_NOUN',
  Event: 'ITS_NOUN',
  FailedBackups: 'readStuck',
  File: 'ITS_NOUN',
  FileResult: 'registerFiles',
  FileTotals: 'EVERYBODY',
  FollowRule: 'readImports',
  FollowRulePayload: 'importDatasets',
  FollowedDataset: 'ITS_PARENT',
  GoodRuns: 'EVERYBODY',
  Group: 'ITS_NOUN',
  GroupPayload: 'manageGroups',
  HitContainer: 'ITS_PARENT',
  HitCopy: 'ITS_PARENT',
  HitDataset: 'ITS_PARENT',
  HitDerived: 'ITS_PARENT',
  HitDerivedDataset: 'ITS_PARENT',
  HitOwner: 'ITS_PARENT',
  Identity: 'manageIdentities',
  IdentityPayload: 'manageIdentities',
  Import: 'readImports',
  ImportConflict: 'ITS_PARENT',
  ImportDatasetPayload: 'importDatasets',
  ImportFile: 'ITS_PARENT',
  ImportPayload: 'handleImport',
  ImportProgress: 'ITS_PARENT',
  Incident: 'readIncidents',
  IncidentDataset: 'ITS_NOUN',
  IncidentEvent: 'readIncidents',
  IncidentItem: 'ITS_NOUN',
  IncidentPayload: 'handleIncident',
  IncidentProgress: 'readIncidents',
  ItemError: 'ITS_PARENT',
  MassStore: 'EVERYBODY',
  OnlineShare: 'ITS_PARENT',
  PageInfo: 'ITS_PARENT',
  Pool: 'EVERYBODY',
  ProductionWait: 'ITS_PARENT',
  Publication: 'readPublications',
  PublicationComposite: 'ITS_PARENT',
  PublicationFile: 'ITS_PARENT',
  PublicationPayload: 'handlePublication',
  PublicationProgress: 'ITS_PARENT',
  PublicationQuota: 'readPublications',
  QuotaNumbers: 'ITS_PARENT',
  ReadFailure: 'ITS_PARENT',
  RecordBackupPayload: 'backUp',
  RecordMergePayload: 'recordMerge',
  RegisterFilesPayload: 'registerFiles',
  RegisterRunsPayload: 'registerRuns',
  Relative: 'ITS_NOUN',
  Replica: 'ITS_PARENT',
  ReplicaCheck: 'ITS_PARENT',
  ReportReadFailurePayload: 'reportReadFailure',
  ReportStorageLossPayload: 'reportLoss',
  RequestBackupPayload: 'backUp',
  RevokeTokenPayload: 'manageTokens',
  RotateTokenPayload: 'rotateToken',
  Run: 'ITS_NOUN',
  RunEvent: 'ITS_NOUN',
  RunList: 'ITS_PARENT',
  RunPayload: 'setRunVerdict',
  RunProduction: 'ITS_PARENT',
  RunRange: 'ITS_PARENT',
  RunResult: 'registerRuns',
  RunVerdictChange: 'ITS_PARENT',
  StagePayload: 'handleStage',
  StageProgress: 'ITS_PARENT',
  StageRequest: 'handleStage',
  StagedFile: 'ITS_NOUN',
  StorageLossTable: 'ITS_PARENT',
  StoreAudit: 'testStores',
  StoreAuditPayload: 'testStores',
  StoreRetry: 'ITS_PARENT',
  StoreTest: 'ITS_PARENT',
  StoreTestFinding: 'ITS_PARENT',
  StreamProduction: 'ITS_PARENT',
  Stuck: 'readStuck',
  StuckDataset: 'ITS_PARENT',
  StuckSweep: 'ITS_PARENT',
  SuspiciousCopy: 'checkCopies',
  SuspiciousCopyPayload: 'checkCopies',
  SweepProgress: 'ITS_PARENT',
  Token: 'manageTokens',
  UploadTarget: 'ITS_PARENT',
  Viewer: 'EVERYBODY',
  ViewerToken: 'ITS_PARENT',
  WaitingBackups: 'readStuck',
  Webhook: 'manageWebhooks',
  WebhookDelivery: 'ITS_PARENT',
  WebhookNames: 'ITS_PARENT',
  WebhookPayload: 'manageWebhooks',
};
