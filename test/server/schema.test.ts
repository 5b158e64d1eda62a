import { readFileSync } from 'node:fs';
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isListType,
  isNonNullType,
  isObjectType,
  isSpecifiedScalarType,
  Kind,
  parse,
  print,
  type GraphQLOutputType,
} from 'graphql';
import { expect, test } from 'vitest';
import { schemaText } from '../../src/server/schema-text.ts';
import { committedSchema } from '../support/scene.ts';

const types = Object.values(committedSchema.getTypeMap()).filter(
  (type) => !isIntrospectionType(type) && !isSpecifiedScalarType(type),
);

test('the committed schema is the one that the code makes', () => {
  const committed = readFileSync(new URL('../../schema.graphql', import.meta.url), 'utf8');
  expect(committed === schemaText(), 'run "npm run schema" and commit schema.graphql').toBe(true);
});

test('every type, field, argument, input field and enum value says what it is', () => {
  const silent: string[] = [];
  const check = (where: string, { description }: { description?: string | null | undefined }) => {
    if (!description?.trim()) silent.push(where);
  };
  for (const type of types) {
    check(type.name, type);
    if (isEnumType(type)) {
      for (const value of type.getValues()) check(`${type.name}.${value.name}`, value);
    }
    if (isObjectType(type) || isInterfaceType(type)) {
      for (const field of Object.values(type.getFields())) {
        check(`${type.name}.${field.name}`, field);
        for (const arg of field.args) check(`${type.name}.${field.name}(${arg.name})`, arg);
      }
    }
    if (isInputObjectType(type)) {
      for (const field of Object.values(type.getFields()))
        check(`${type.name}.${field.name}`, field);
    }
  }
  expect(types.length).toBeGreaterThan(40);
  expect(silent).toEqual([]);
});

/** Lists that are no connections, and why they cannot grow without bound. */
const boundedLists: Record<string, string> = {
  'RevokeTokenPayload.successors': 'the first 1,000 that stood',
  'BackupPolicy.stores': 'at most 8',
  'Query.backupPolicies': 'at most 50 in a store file',
  'Query.storeAudits': 'the last 50',
  'StoreAudit.findings': 'as many as first says, at most 200',
  'StoreTest.findings': 'ten questions, and one line more where it was cut off',
  'File.backups': 'one for each mass store',
  'File.owedStores': 'at most 8 in a policy',
  'File.accessUrls': 'one for each mass store, and for each protocol of each pool',
  'Query.pools': 'at most 50 in a store file',
  'Pool.protocols': 'each once at most',
  'Pool.roles': 'each once at most',
  'File.replicaChecks': 'the last 20',
  'HitDerived.datasets': 'the first 20',
  'ReportStorageLossPayload.containers': 'the first 200',
  'ReportStorageLossPayload.derivedDatasets': 'the first 100',
  'StorageLossTable.containers': 'the first 200',
  'StorageLossTable.datasets': 'the first 200; the incident has all',
  'StorageLossTable.derived': 'the first 100',
  'StorageLossTable.derivedDatasets': 'the first 100',
  'StorageLossTable.items': 'the first 1,000; the incident has all',
  'StorageLossTable.lostRuns': 'one for each source',
  'StorageLossTable.owners': 'the first 200',
  'ReportStorageLossPayload.datasets': 'the first 200; the incident has all',
  'ReportStorageLossPayload.derived': 'the first 100',
  'ReportStorageLossPayload.items': 'the first 1,000; the incident has all',
  'ReportStorageLossPayload.lostRuns': 'one for each source',
  'ReportStorageLossPayload.owners': 'the first 200',
  'ReportStorageLossPayload.unknown': 'the first 100',
  'File.replicas': 'one for each volume that holds it',
  'SuspiciousCopy.reports': 'of 100 jobs at most',
  'WebhookNames.in': 'at most 100',
  'Webhook.kinds': 'each kind once at most',
  'Query.massStores': 'as many as were configured',
  'DatasetOrigin.sites': 'the last 20',
  'ImportDatasetPayload.conflicts': 'the first 20',
  'ImportFile.urls': 'at most 20 in a manifest',
  'DatasetRunConnection.totals': 'one for each dataset that was named, at most 200',
  'Dataset.sharedWith': 'at most 1,000',
  'Group.members': 'the first 10,000',
  'Query.tokens': 'made one by one, by admins, for admins',
  'RegisterFilesPayload.results': 'one for each item of the call',
  'RegisterRunsPayload.results': 'one for each item of the call',
  'RequestBackupPayload.results': 'one for each item of the call',
  'GoodRuns.numbers': 'more than 100,000 are refused',
  'Query.totals': 'at most 5,000 lines, more are refused',
  'Run.expectedStreams': 'at most 1,000 when it is registered',
  'Run.verdicts': 'the last 100',
  'RunProduction.streams': 'those that were expected and those of its run files',
  'RunProduction.waitingFor': 'a few reasons for each stream',
  'Stuck.badDatasets': 'groups, as many as first says',
  'Stuck.failedBackups': 'groups, as many as first says',
  'Stuck.storesDown': 'as many as were configured',
  'Stuck.waitingBackups': 'groups, as many as first says',
  'Token.scopes': 'at most 100',
  'Token.sites': 'at most 100',
  'ViewerToken.scopes': 'at most 100',
  'ViewerToken.sites': 'as many as a token or the rules of its issuer name',
  'ViewerToken.groups': 'at most 500',
  'Identity.roles': 'as many as there are roles',
  'Identity.groups': 'at most 500',
  'AuditEntry.roles': 'as many as there are roles',
  'Token.roles': 'as many as there are roles',
  'Viewer.roles': 'as many as there are roles',
};

function isList(type: GraphQLOutputType): boolean {
  return isListType(isNonNullType(type) ? type.ofType : type);
}

test('every list is a page of a connection, or bounded by what it is', () => {
  const unbounded: string[] = [];
  for (const type of types) {
    if (!isObjectType(type)) continue;
    for (const field of Object.values(type.getFields())) {
      const name = `${type.name}.${field.name}`;
      const isPage = type.name.endsWith('Connection') && ['edges', 'nodes'].includes(field.name);
      if (isList(field.type) && !isPage && !(name in boundedLists)) unbounded.push(name);
      if (getNamedType(field.type).name.endsWith('Connection')) {
        expect(
          field.args.map((arg) => arg.name),
          name,
        ).toEqual(expect.arrayContaining(['first', 'after']));
      }
    }
  }
  expect(unbounded).toEqual([]);
});

/** The names that clients are built on: they stay, whatever comes beside them. */
const bindingNames = /* GraphQL */ `
  enum DatasetStatus {
    OPEN
    BACKED_UP
    CLOSED
  }
  enum DatasetKind {
    PR
    SP
    SKIM
    IMPORT
    USER
  }
  enum FileKind {
    RUN_FILE
    MERGED_FILE
  }
  enum BackupStatus {
    REQUESTED
    COPYING
    COPIED
    CONFIRMED
    FAILED
    LOST
  }
  enum RunSource {
    DATA
    SIMULATION
  }
  enum ProductionStatus {
    IN_PRODUCTION
    AVAILABLE
  }

  type Query {
    node(id: ID!): Node
    viewer: Viewer!
    dataset(name: String!): Dataset
    datasets(
      filter: DatasetFilter
      orderBy: DatasetOrder
      first: Int = 50
      after: String
    ): DatasetConnection!
    file(lfn: String!): File
    files(filter: FileFilter, first: Int = 50, after: String): FileConnection!
    run(number: Int!, source: RunSource = DATA): Run
    runs(filter: RunFilter, first: Int = 50, after: String): RunConnection!
    backupRecords(
      filter: BackupRecordFilter
      first: Int = 50
      after: String
    ): BackupRecordConnection!
    events(filter: EventFilter, first: Int = 100, after: String): EventConnection!
  }
  type Viewer {
    name: String!
    roles: [Role!]!
  }
  type Dataset implements Node {
    id: ID!
    name: String!
    kind: DatasetKind!
    status: DatasetStatus!
    owner: String!
    stream: String
    release: String
    treeName: String
    description: String
    sealed: Boolean!
    backupWaived: Boolean!
    badMark: BadMark
    isAvailable: Boolean!
    fileCount: SafeInt!
    sizeBytes: SafeInt!
    eventCount: SafeInt!
    luminosity: Float
    runRange: RunRange
    createdAt: DateTime!
    backedUpAt: DateTime
    closedAt: DateTime
    files(filter: FileFilter, first: Int = 50, after: String): FileConnection!
    runs(first: Int = 50, after: String): RunConnection!
    history(first: Int = 50, after: String): EventConnection!
    sweep: SweepProgress
    exportUrl(format: ExportFormat!): String!
  }
  type SweepProgress {
    total: SafeInt!
    confirmed: SafeInt!
    copying: SafeInt!
    failed: SafeInt!
    lastError: String
  }
  type DatasetConnection {
    edges: [DatasetEdge!]!
    nodes: [Dataset!]!
    pageInfo: PageInfo!
    totalCount: SafeInt!
  }
  type Mutation {
    registerRuns(input: RegisterRunsInput!): RegisterRunsPayload!
    registerFiles(input: RegisterFilesInput!): RegisterFilesPayload!
    recordMerge(input: RecordMergeInput!): RecordMergePayload!
    createDataset(input: CreateDatasetInput!): CreateDatasetPayload!
    addFilesToDataset(input: DatasetFilesInput!): DatasetPayload!
    removeFilesFromDataset(input: DatasetFilesInput!): DatasetPayload!
    requestBackup(input: RequestBackupInput!): RequestBackupPayload!
    recordBackup(input: RecordBackupInput!): RecordBackupPayload!
    markDatasetBackedUp(input: DatasetTransitionInput!): DatasetPayload!
    closeDataset(input: DatasetTransitionInput!): DatasetPayload!
    reopenDataset(input: DatasetTransitionInput!): DatasetPayload!
    sweepDataset(input: DatasetTransitionInput!): DatasetPayload!
    markDatasetBad(input: BadMarkInput!): DatasetPayload!
    clearDatasetBad(input: BadMarkInput!): DatasetPayload!
    setRunVerdict(input: RunVerdictInput!): RunPayload!
  }
  type DatasetPayload {
    dataset: Dataset!
    changed: Boolean!
  }
  type Subscription {
    datasetStatusChanged(filter: DatasetEventFilter, after: String): DatasetStatusEvent!
    runBecameAvailable(filter: RunFilter, after: String): RunEvent!
    backupProgress(dataset: String, lfn: String): BackupProgress!
  }
  type DatasetStatusEvent {
    cursor: String!
    dataset: Dataset!
    from: DatasetStatus
    to: DatasetStatus!
    badMark: BadMark
    actor: String!
    reason: String
    occurredAt: DateTime!
  }
  input NameFilter {
    eq: String
    in: [String!]
    startsWith: String
    glob: String
  }
`;

test('the names that clients are built on are all there, with their types', () => {
  const missing: string[] = [];
  const same = (where: string, wanted: string, is: string | undefined) => {
    if (is !== wanted) missing.push(`${where}: ${wanted}, and it is ${is ?? 'not there'}`);
  };
  for (const wanted of parse(bindingNames).definitions) {
    if (wanted.kind === Kind.ENUM_TYPE_DEFINITION) {
      const type = committedSchema.getType(wanted.name.value);
      const values = isEnumType(type) ? type.getValues().map((value) => value.name) : [];
      for (const value of wanted.values ?? []) {
        same(
          wanted.name.value,
          value.name.value,
          values.find((name) => name === value.name.value),
        );
      }
    } else if (
      wanted.kind === Kind.OBJECT_TYPE_DEFINITION ||
      wanted.kind === Kind.INPUT_OBJECT_TYPE_DEFINITION
    ) {
      const type = committedSchema.getType(wanted.name.value);
      const fields = isObjectType(type) || isInputObjectType(type) ? type.getFields() : {};
      for (const field of wanted.fields ?? []) {
        const name = `${wanted.name.value}.${field.name.value}`;
        const is = fields[field.name.value];
        same(name, print(field.type), is && String(is.type));
        if (field.kind !== Kind.FIELD_DEFINITION) continue;
        for (const arg of field.arguments ?? []) {
          const found =
            is && 'args' in is ? is.args.find((a) => a.name === arg.name.value) : undefined;
          const where = `${name}(${arg.name.value})`;
          same(where, print(arg.type), found && String(found.type));
          if (arg.defaultValue) same(where, print(arg.defaultValue), String(found?.defaultValue));
        }
      }
    }
  }
  expect(missing).toEqual([]);
});
