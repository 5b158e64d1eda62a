import { SweepbookError } from '../errors.ts';
import { roles, type AnyRole, type Role } from './roles.ts';

export { roles, type AnyRole, type Role };

export type RoleSites = Readonly<Partial<Record<AnyRole, readonly string[]>>>;

/** By what somebody is known: an API token of this server, or a JWT of an issuer that is trusted. */
export type Credential =
  | { readonly kind: 'TOKEN'; readonly id: number; readonly prefix: string }
  | {
      readonly kind: 'JWT';
      readonly issuer: string;
      readonly subject: string;
      readonly jti: string | undefined;
    };

/** Who asks: the name that stands in events, and what the token allows. */
export interface Viewer {
  readonly principal: string;
  readonly roles: readonly AnyRole[];
  readonly credential?: Credential;
  readonly expiresAt?: Date;
  /** Actions that the token is narrowed to; undefined = all that the roles allow. */
  readonly scopes?: readonly string[];
  /** Sites that a role is good for, where its reach is `site`; a role that does not stand here: every site. */
  readonly sites?: RoleSites;
  /** Groups that his issuer vouches for (`wlcg.groups`), beside those that operators have put him into; an API token has none. */
  readonly groups?: readonly string[];
}

export const anonymous: Viewer = Object.freeze({
  principal: 'anonymous',
  roles: Object.freeze(['ANONYMOUS'] as const),
});

/** A token is refused that was proved to be somebody's: whose, the audit trail is told and nobody else. UNAUTHENTICATED. */
export class KnownRefusal extends SweepbookError {
  readonly viewer: Pick<Viewer, 'principal' | 'roles' | 'credential'>;

  constructor(message: string, viewer: KnownRefusal['viewer']) {
    super('UNAUTHENTICATED', message);
    this.viewer = viewer;
  }
}

/**
 * any = on everything, own = on what the viewer owns, site = on what lies at the sites that his token or identity
 * names; one that names none is good for every site.
 */
export type Reach = 'any' | 'own' | 'site';

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
  testStores: { OPERATOR: 'site', ADMIN: 'any' },
  /** What is stuck in production, and why. */
  readStuck: production,
  waiveBackup: { ADMIN: 'any' },
  markBad: { OPERATOR: 'any', ADMIN: 'any' },
  clearBad: { ADMIN: 'any' },
  /** Report a loss of storage, with preview. */
  reportLoss: { OPERATOR: 'site', ADMIN: 'any' },
  /** Recover, undo and close incidents: each site that one has hit, and where copies are restaged to. */
  handleIncident: { OPERATOR: 'site', ADMIN: 'any' },
  /** Incidents; an owner sees the part that is about his datasets. */
  readIncidents: { ...production, USER: 'own', DQM: 'own', IMPORTER: 'own' },
  /** Tell that a copy is on disk (again); a worker reads it before it counts. */
  confirmReplica: { PRODUCER: 'site', IMPORTER: 'site', OPERATOR: 'site', ADMIN: 'any' },
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
  /** Stage files that one sees into a pool, if the pool takes it from one's role. */
  stageFiles: {
    USER: 'any',
    DQM: 'any',
    PRODUCER: 'any',
    IMPORTER: 'any',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** See and release what was staged. */
  handleStage: {
    USER: 'own',
    DQM: 'own',
    PRODUCER: 'own',
    IMPORTER: 'own',
    OPERATOR: 'any',
    ADMIN: 'any',
  },
  /** See which copies are suspicious, have one checked at once. */
  checkCopies: { OPERATOR: 'site', ADMIN: 'any' },
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
  /** Replace a token by a new one of the same kind: each may replace itself. */
  rotateToken: {
    USER: 'own',
    DQM: 'own',
    PRODUCER: 'own',
    IMPORTER: 'own',
    OPERATOR: 'own',
    ADMIN: 'any',
  },
  /** See who came by a trusted issuer, and keep somebody out. */
  manageIdentities: { ADMIN: 'any' },
  /** Who did what, from where, and what was refused. */
  readAuditTrail: { ADMIN: 'any' },
} as const satisfies Record<string, Partial<Record<AnyRole, Reach>>>;

export type Action = keyof typeof policy;

export const actions = Object.keys(policy) as Action[];

/** What an action is done to: the owner alone, or its owner and site. Nothing = is there anything at all to do it to. */
export type Target = string | { readonly owner?: string; readonly site?: string | undefined };

const partsOf = (target: Target): { readonly owner?: string; readonly site?: string | undefined } =>
  typeof target === 'string' ? { owner: target } : target;

/** What a token may be narrowed to: `read` for all reading, or the name of an action. */
export const readScope = 'read';
const isReading = (action: Action) => action.startsWith('read');

const isInScope = ({ scopes }: Viewer, action: Action) =>
  scopes === undefined ||
  scopes.includes(action) ||
  (isReading(action) && scopes.includes(readScope));

/** Whether the viewer may do this, to something of this owner or at this site if it has one. */
export function may(viewer: Viewer, action: Action, target: Target = {}): boolean {
  if (!isInScope(viewer, action)) return false;
  const { owner, site } = partsOf(target);
  const granted: Partial<Record<AnyRole, Reach>> = policy[action];
  return viewer.roles.some((role) => {
    switch (granted[role]) {
      case 'any':
        return true;
      case 'own':
        return owner === viewer.principal;
      case 'site':
        return site === undefined || (viewer.sites?.[role]?.includes(site) ?? true);
      case undefined:
        return false;
    }
  });
}

/** At which sites the viewer may do this; undefined = at every one. */
export function sitesOf(viewer: Viewer, action: Action): readonly string[] | undefined {
  if (!isInScope(viewer, action)) return [];
  const granted: Partial<Record<AnyRole, Reach>> = policy[action];
  const sites = new Set<string>();
  for (const role of viewer.roles) {
    if (granted[role] === 'any') return undefined;
    if (granted[role] !== 'site') continue;
    const named = viewer.sites?.[role];
    if (named === undefined) return undefined;
    for (const site of named) sites.add(site);
  }
  return [...sites];
}

/** Refuses what the viewer may not do: UNAUTHENTICATED without a token, FORBIDDEN with one. */
export function demand(viewer: Viewer, action: Action, target: Target = {}): void {
  if (may(viewer, action, target)) return;
  if (viewer.roles.includes('ANONYMOUS')) {
    throw new SweepbookError(
      'UNAUTHENTICATED',
      `${action} needs a token: send it as "Authorization: Bearer …"`,
      { action },
    );
  }
  const isOwn = partsOf(target).owner === viewer.principal;
  const allowed = Object.entries(policy[action])
    .filter(([, reach]) => isOwn || reach !== 'own')
    .map(([role]) => role);
  throw new SweepbookError(
    'FORBIDDEN',
    `${viewer.principal} may not ${action}${whyNot(viewer, action, target, allowed)}`,
    { action, roles: viewer.roles, allowed },
  );
}

/** What stands between: the scopes of the token, the site, the owner or the roles. */
function whyNot(
  viewer: Viewer,
  action: Action,
  target: Target,
  allowed: readonly string[],
): string {
  const { owner, site } = partsOf(target);
  if (!isInScope(viewer, action)) {
    return `: the token is narrowed to ${viewer.scopes?.join(', ') || 'nothing'}`;
  }
  if (site !== undefined && may(viewer, action, owner ?? {})) {
    const named = [...new Set(Object.values(viewer.sites ?? {}).flat())];
    return ` at site ${site}: the token is good for ${named.join(', ')}`;
  }
  return (
    `${owner === undefined || owner === viewer.principal ? '' : ' on what belongs to somebody else'}: ` +
    `it takes one of the roles ${allowed.join(', ')}`
  );
}
