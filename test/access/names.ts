/* What the arguments of the schema name, and what they do not. */

export const idOf = (noun: string, id: number) =>
  Buffer.from(`${noun}:${id}`).toString('base64url');
const absentId = 99_999;

/** Something that is there and hidden, by its noun or name; and something that is not there. */
export interface Pair {
  readonly there: string;
  readonly absent: string;
}

export const noun = (name: string) => ({ there: name, absent: idOf(name, absentId) });
export const dataset = { there: 'open', absent: 'n-o-n' };
export const lfn = { there: '/run/1a', absent: '/run/9z' };
/** Of a run in production. */
export const runNumber = { there: '77777', absent: '88888' };
const group = { there: 'world', absent: 'nowhere' };
const apiToken = { there: 'Token', absent: 'ffffffffffff' };
/** By its number, and not by its id. */
const audit = { there: 'audit', absent: '99999' };
const person = { there: 'ida@sso', absent: 'nobody@sso' };

/** What arguments name, by the argument, its last words or its last one: something that is there and hidden, and something that is not there. */
export const named: Record<string, Pair> = {
  dataset,
  datasets: dataset,
  holdsDataset: dataset,
  inDataset: dataset,
  files: lfn,
  inputs: lfn,
  lfn,
  lfns: lfn,
  outputLfn: lfn,
  parents: lfn,
  import: noun('Import'),
  incident: noun('Incident'),
  publication: noun('Publication'),
  request: noun('StageRequest'),
  numbers: runNumber,
  runs: runNumber,
  'lfn.eq': lfn,
  'lfn.in': lfn,
  'lfn.glob': lfn,
  'lfn.startsWith': lfn,
  'datasets(filter.name.eq)': dataset,
  'datasets(filter.name.in)': dataset,
  'datasets(filter.name.glob)': dataset,
  'datasets(filter.name.startsWith)': dataset,
  'dataset(name)': dataset,
  'blockIdentity(input.principal)': person,
  'unblockIdentity(principal)': person,
  'changeGroup(input.name)': group,
  'removeGroup(name)': group,
  'requestPublication(input.group)': group,
  'publicationQuota(name)': { there: 'uma', absent: 'n-o-n' },
  'revokeToken(prefix)': apiToken,
  'rotateToken(input.prefix)': apiToken,
  'checkSuspiciousCopy(id)': noun('SuspiciousCopy'),
  'deleteFollowRule(id)': noun('FollowRule'),
  'deleteWebhook(id)': noun('Webhook'),
  'enableWebhook(input.id)': noun('Webhook'),
  'followRule(id)': noun('FollowRule'),
  'import(id)': noun('Import'),
  'incident(id)': noun('Incident'),
  'lookNow(id)': noun('FollowRule'),
  'publication(id)': noun('Publication'),
  'settleAudit(id)': audit,
  'stageRequest(id)': noun('StageRequest'),
  'storeAudits(id)': audit,
  'testWebhook(id)': noun('Webhook'),
};
/** Names of what is not of here, or is to be made: that one is taken must be told. */
export const ofNoObject = new Set([
  'createContainer(input.name)',
  'createDataset(input.name)',
  'createFollowRule(input.filter.container)',
  'createFollowRule(input.filter.name.eq)',
  'createFollowRule(input.filter.name.glob)',
  'createFollowRule(input.filter.name.in)',
  'createFollowRule(input.filter.name.startsWith)',
  'importDataset(input.dataset)',
  'importDataset(input.from)',
  'importDataset(input.name)',
  'recordMerge(input.output.lfn)',
  'registerFiles(input.files.lfn)',
  'registerRuns(input.runs.conditions)',
  'requestPublication(input.files.name)',
  'requestPublication(input.name)',
  // They tell what happens from now on: test/access/fields.test.ts, test/notices.
  'createWebhook(input.datasets.eq)',
  'createWebhook(input.datasets.glob)',
  'createWebhook(input.datasets.in)',
  'createWebhook(input.datasets.startsWith)',
  'datasetStatusChanged(filter.dataset)',
  'datasetStatusChanged(filter.name.eq)',
  'datasetStatusChanged(filter.name.glob)',
  'datasetStatusChanged(filter.name.in)',
  'datasetStatusChanged(filter.name.startsWith)',
  'runBecameAvailable(filter.inDataset)',
  'runBecameAvailable(filter.numbers)',
]);
/** What names nothing that is hidden from somebody, by the argument or its last word; a new one is to be thought about. */
export const namesNothing = new Set([
  // What everybody sees: containers, stores, pools, sites and their disks.
  'backUpTo',
  'container',
  'massStore',
  'mirror',
  'pool',
  'site',
  'store',
  'volume',
  'checkMassStore(name)',
  'container(name)',
  'createToken(input.sites)',
  ...['eq', 'glob', 'in', 'startsWith'].flatMap((how) => [
    `containers(filter.name.${how})`,
    `containerChanged(filter.name.${how})`,
    ...['release', 'site', 'stream'].map((of) => `totals(filter.${of}.${how})`),
  ]),
  // People, who are no secret, and what they are called by.
  'actor',
  'add',
  'groups',
  'owner',
  'remove',
  'requestedBy',
  'users',
  'createToken(input.principal)',
  'setPublicationQuota(input.name)',
  // Of the trail, which admins alone read.
  ...['address', 'code', 'field', 'principal', 'tokenPrefix'].map(
    (of) => `auditTrail(filter.${of})`,
  ),
  // Where a file lies that is named beside.
  'path',
  'pathFrom',
  'pathPrefix',
  'pathTo',
  'paths',
  'url',
  // Moments and places of a list.
  'after',
  'marker',
  'until',
  // What something is like, or is said of it.
  'adler32',
  'comment',
  'conditions',
  'description',
  'error',
  'errorCode',
  'expectedStreams',
  'idempotencyKey',
  'job',
  'note',
  'reason',
  'release',
  'runSource',
  'scopes',
  'sha256',
  'stream',
  'treeName',
  'waiverReason',
]);
