import { SweepbookError } from '../errors.ts';

/** Roles that a token can carry; ANONYMOUS is whoever shows none. */
export const roles = ['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN'] as const;
export type Role = (typeof roles)[number];
export type AnyRole = Role | 'ANONYMOUS';

/** Who asks: the name that stands in events, and what the token allows. */
export interface Viewer {
  readonly principal: string;
  readonly roles: readonly AnyRole[];
  readonly tokenId?: number;
  readonly expiresAt?: Date;
  /** Groups that his token vouches for, beside those that operators have put him into. */
  readonly groups?: readonly string[];
}

export const anonymous: Viewer = Object.freeze({
  principal: 'anonymous',
  roles: Object.freeze(['ANONYMOUS'] as const),
});

/** any = on everything, own = on what the viewer owns. */
type Reach = 'any' | 'own';

const production = { PRODUCER: 'any', OPERATOR: 'any', ADMIN: 'any' } as const;
const ownersAndOperators = { PRODUCER: 'own', OPERATOR: 'any', ADMIN: 'any' } as const;

/** The policy: for each action the roles that may do it, and on what. Nothing else grants anything. */
export const policy = {
  /** Datasets before they are closed or while they are bad; their files. An owner always sees his own. */
  readUnfinished: {
    ...production,
    USER: 'own',
    DQM: 'own',
    IMPORTER: 'own',
  },
  /** Everything about runs that are still in production, files in no dataset, the whole event log. */
  readProduction: production,
  /** That a run is in production; of a run that is AVAILABLE, everything. */
  readRunStatus: { ...production, DQM: 'any' },
  registerRuns: production,
  registerFiles: production,
  recordMerge: production,
  createDataset: { ...production, IMPORTER: 'any' },
  /** Add and remove files, mark backed up, close, reopen, sweep. */
  changeDataset: { ...ownersAndOperators, IMPORTER: 'own' },
  createContainer: production,
  /** Put datasets into a container and take them out. */
  changeContainer: { ...ownersAndOperators, IMPORTER: 'own' },
  /** Create a dataset or a container that belongs to somebody else. */
  createForOthers: { OPERATOR: 'any', ADMIN: 'any' },
  backUp: { ...production, IMPORTER: 'any' },
  readBackups: { ...production, IMPORTER: 'any' },
  /** Test a mass store with canaries: from then on its word is believed, or not. */
  testStores: { OPERATOR: 'any', ADMIN: 'any' },
  /** What is stuck in production, and why. */
  readStuck: production,
  waiveBackup: { ADMIN: 'any' },
  markBad: { OPERATOR: 'any', ADMIN: 'any' },
  clearBad: { ADMIN: 'any' },
  /** Report a loss of storage, with preview. */
  reportLoss: { OPERATOR: 'any', ADMIN: 'any' },
  /** Recover, undo and close incidents. */
  handleIncident: { OPERATOR: 'any', ADMIN: 'any' },
  /** Incidents; an owner sees the part that is about his datasets. */
  readIncidents: { ...production, USER: 'own', DQM: 'own', IMPORTER: 'own' },
  /** Tell that a copy is on disk (again); a worker reads it before it counts. */
  confirmReplica: { ...production, IMPORTER: 'any' },
  setRunVerdict: { DQM: 'any', OPERATOR: 'any', ADMIN: 'any' },
  /** How many of what there are, finished or not: /metrics. */
  readMetrics: { OPERATOR: 'any', ADMIN: 'any' },
  /** Ask to be told by webhook what happens to datasets; see, test and end such webhooks. */
  manageWebhooks: {
    USER: 'own',
    DQM: 'own',
    PRODUCER: 'own',
    IMPORTER: 'own',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** Be told by webhook of the datasets of everybody. */
  watchAllDatasets: { OPERATOR: 'any', ADMIN: 'any' },
  /** Say that a job could not read a copy of a file that one sees. */
  reportReadFailure: {
    USER: 'any',
    DQM: 'any',
    PRODUCER: 'any',
    IMPORTER: 'any',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** See which copies are suspicious, have one checked at once. */
  checkCopies: { OPERATOR: 'any', ADMIN: 'any' },
  /** Import datasets of other sites. */
  importDatasets: { IMPORTER: 'any', OPERATOR: 'any', ADMIN: 'any' },
  /** Retry and cancel imports. */
  handleImport: { IMPORTER: 'own', OPERATOR: 'any', ADMIN: 'any' },
  /** How imports come along. */
  readImports: { ...production, IMPORTER: 'own' },
  /** Have own files merged, backed up and published. */
  publish: {
    USER: 'any',
    DQM: 'any',
    PRODUCER: 'any',
    IMPORTER: 'any',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** Withdraw and retry publications. */
  handlePublication: {
    USER: 'own',
    DQM: 'own',
    PRODUCER: 'own',
    IMPORTER: 'own',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** Publications that are not published, their files, their quotas: an owner's own, and nobody else's but operators. */
  readPublications: {
    USER: 'own',
    DQM: 'own',
    PRODUCER: 'own',
    IMPORTER: 'own',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** Decide on publications, set quotas. */
  managePublishing: { OPERATOR: 'any', ADMIN: 'any' },
  /** Show a dataset to others before it is published, and end that. */
  shareDataset: {
    USER: 'own',
    DQM: 'own',
    PRODUCER: 'own',
    IMPORTER: 'own',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** Make groups of users, and say who is in them. */
  manageGroups: { OPERATOR: 'any', ADMIN: 'any' },
  manageTokens: { ADMIN: 'any' },
} as const satisfies Record<string, Partial<Record<AnyRole, Reach>>>;

export type Action = keyof typeof policy;

/** Whether the viewer may do this, to something of this owner if it has one. */
export function may(viewer: Viewer, action: Action, owner?: string): boolean {
  const granted: Partial<Record<AnyRole, Reach>> = policy[action];
  return viewer.roles.some((role) => {
    const reach = granted[role];
    return reach === 'any' || (reach === 'own' && owner === viewer.principal);
  });
}

/** Refuses what the viewer may not do: UNAUTHENTICATED without a token, FORBIDDEN with one. */
export function demand(viewer: Viewer, action: Action, owner?: string): void {
  if (may(viewer, action, owner)) return;
  if (viewer.roles.includes('ANONYMOUS')) {
    throw new SweepbookError(
      'UNAUTHENTICATED',
      `${action} needs a token: send it as "Authorization: Bearer …"`,
      { action },
    );
  }
  const allowed = Object.keys(policy[action]);
  throw new SweepbookError(
    'FORBIDDEN',
    `${viewer.principal} may not ${action}${owner === undefined ? '' : ' on what belongs to somebody else'}: ` +
      `it takes one of the roles ${allowed.join(', ')}`,
    { action, roles: viewer.roles, allowed },
  );
}
