import {
  guardedFields,
  sights,
  toldOfRunInProduction,
  variedFields,
} from '../src/access/fields.ts';
import { policy, type Action, type Reach } from '../src/access/policy.ts';
import { anyRoles, type AnyRole } from '../src/access/roles.ts';

const what: Readonly<Record<Action, string>> = {
  readUnfinished: 'See datasets before they are closed or while they are bad, and their files',
  readProduction: 'See all of runs in production, files in no dataset, and the whole event log',
  readRunStatus: 'See that a run is in production; of runs that are AVAILABLE, everything',
  registerRuns: 'Register runs',
  registerFiles: 'Register files',
  recordMerge: 'Record a merge',
  createDataset: 'Create datasets',
  changeDataset: 'Add and remove files, mark backed up, close, reopen, sweep',
  createContainer: 'Create containers',
  changeContainer: 'Put datasets into a container and take them out',
  createForOthers: 'Create datasets and containers that belong to somebody else',
  backUp: 'Ask for backups, record one',
  readBackups: 'See backup records, and how mass stores do',
  testStores: 'Test and audit mass stores',
  readStuck: 'See what is stuck, and why',
  waiveBackup: 'Waive the backup of a dataset',
  markBad: 'Mark datasets bad',
  clearBad: 'Take bad marks off',
  reportLoss: 'Report a loss of storage, and preview it',
  handleIncident: 'Recover, undo and close incidents; same site: those that hit no other site',
  readIncidents: 'See incidents; an owner the part about his datasets',
  confirmReplica: 'Tell that a copy is on disk (again)',
  setRunVerdict: 'Give the verdict of DQM',
  readMetrics: 'Read /metrics',
  manageWebhooks: 'Make, see, test and end webhooks',
  watchAllDatasets: 'Be told by webhook of the datasets of everybody',
  reportReadFailure: 'Say that a job could not read a copy',
  checkCopies: 'See suspicious copies, have one checked',
  stageFiles: 'Have files staged into a pool, if the pool takes it from the role',
  handleStage: 'See and release what was staged',
  importDatasets: 'Import datasets of other sites',
  handleImport: 'Retry and cancel imports',
  publish: 'Have own files merged, backed up and published',
  handlePublication: 'Withdraw and retry publications',
  readPublications: 'See publications that are not published, their files, their quotas',
  managePublishing: 'Decide on publications, set quotas',
  shareDataset: 'Show a dataset to others before it is published, and end that',
  manageGroups: 'Make groups of users, and say who is in them',
  readImports: 'See how imports come along',
  manageTokens: 'Make, list and revoke tokens',
  rotateToken: 'Replace a token by a new one of its kind; own: the one that is shown',
  manageIdentities: 'See who came by a trusted issuer, keep somebody out',
  readAuditTrail: 'Read the audit trail',
};

const words: Readonly<Record<Reach, string>> = { any: 'any', own: 'own', site: 'same site' };

const wordOf = (action: Action, role: AnyRole): string => {
  const granted: Partial<Record<AnyRole, Reach>> = policy[action];
  const reach = granted[role];
  return reach === undefined ? '' : words[reach];
};

/** docs/access.md, made from the tables that the server enforces. */
export function accessText(): string {
  const actions = Object.keys(policy) as Action[];
  return [
    '# Who may do what',
    'Made by `npm run access` from `src/access/policy.ts` and `src/access/fields.ts`, which the server enforces; ' +
      'nothing else grants anything. How roles come to people: [identity.md](identity.md).',
    'Everybody, with a token or without, sees datasets that are closed and not bad, their files and confirmed backups, ' +
      'runs that are AVAILABLE, and containers. What somebody may not see does not exist for him: not in counts, totals, ' +
      'filters, cursors, `node(id)`, exports, events, subscriptions or errors.',
    '## Actions',
    'any: on everything. own: on what belongs to him. same site: on what lies at the sites that his token or identity ' +
      'names, or anywhere if it names none. Empty: refused, with `UNAUTHENTICATED` without a token and `FORBIDDEN` with ' +
      'one. A token with scopes may only what stands in them: the name of an action, or `read` for all that begin so.',
    table(
      ['Action', 'What it is', ...anyRoles],
      actions.map((action) => [
        `\`${action}\``,
        what[action],
        ...anyRoles.map((role) => wordOf(action, role)),
      ]),
    ),
    '## Fields',
    'Each field is told with its object, but for these, which take an action as well; others get null or an empty list.',
    table(
      ['Field', 'Action', 'Others get'],
      Object.entries(guardedFields).map(([name, { action, otherwise }]) => [
        `\`${name}\``,
        `\`${action}\``,
        otherwise === null ? 'null' : '[]',
      ]),
    ),
    'Of a run in production, who has no `readProduction` is told ' +
      `${toldOfRunInProduction.map((name) => `\`${name}\``).join(', ')} and nothing else.`,
    'Told by who asks:',
    table(
      ['Field', 'What is told'],
      Object.entries(variedFields).map(([name, counted]) => [`\`${name}\``, counted]),
    ),
    '## Objects',
    'By its noun: by the rule of datasets, files, runs, backups or events. With its parent: whoever sees the object or ' +
      'the answer that it stands in. An action: who may do it, and where the table says own, of his own.',
    table(
      ['Type', 'Seen'],
      Object.entries(sights).map(([name, sight]) => [`\`${name}\``, seen(sight)]),
    ),
  ]
    .join('\n\n')
    .concat('\n');
}

function seen(sight: string): string {
  const known: Readonly<Record<string, string>> = {
    ITS_NOUN: 'by its noun',
    ITS_PARENT: 'with its parent',
    EVERYBODY: 'by everybody',
  };
  return known[sight] ?? `\`${sight}\``;
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const write = (line: readonly string[]) => `| ${line.join(' | ')} |`;
  return [write(head), write(head.map(() => '---')), ...lines.map(write)].join('\n');
}
