import { graphql } from 'graphql';
import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anonymous, type Viewer } from '../../src/access/policy.ts';
import { Context, type Means } from '../../src/api/context.ts';
import { writeCursor } from '../../src/database/cursor.ts';
import type { Db } from '../../src/database/orm.ts';
import { parametersFor } from '../../src/database/late.ts';
import { plannerSettings } from '../../src/database/read-pool.ts';
import { defaultLimits } from '../../src/limits.ts';
import { Complexity } from '../../src/server/complexity.ts';
import { FastReads } from '../../src/server/fast-reads.ts';
import { makeSchema } from '../../src/server/schema.ts';
import { OpenStores } from '../../src/storage/open.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { buildLargeWorld } from './large-world.ts';

const bigTables = new Set([
  'files',
  'dataset_files',
  'backup_records',
  'events',
  'runs',
  'file_runs',
  'file_parents',
  'datasets',
  'dataset_runs',
  'merge_inputs',
  'merges',
]);
/** Rows that one statement may look at for a page of 50; the tables have up to half a million. */
const mostRows = 25_000;

interface Statement {
  readonly sql: string;
  readonly parameters: readonly unknown[];
  /** Its plan may be kept. */
  readonly isKept?: boolean;
}

let database: TestDatabase;
let pool: pg.Pool;
let client: pg.Client;
let db: Db;
const sent: Statement[] = [];

beforeAll(async () => {
  database = await openTestDatabase();
  await buildLargeWorld(database);
  client = await database.client();
  const types = new pg.TypeOverrides();
  types.setTypeParser(pg.types.builtins.INT8, Number);
  types.setTypeParser(pg.types.builtins.NUMERIC, Number);
  pool = new pg.Pool({ connectionString: database.url, max: 4, types });
  const kysely = new Kysely({
    dialect: new PostgresDialect({ pool }),
    log: ({ level, query }) => {
      if (level === 'query') sent.push({ sql: query.sql, parameters: query.parameters });
    },
  });
  // The same handle as the program's, but for the log.
  db = { getKysely: () => kysely, fork: () => db } as unknown as Db;
}, 300_000);
afterAll(async () => {
  await pool.end();
  await database.close({ check: false });
});

const viewers: Record<string, Viewer> = {
  anonymous,
  owner: { principal: 'user5', roles: ['USER'] },
  DQM: { principal: 'dora', roles: ['DQM'] },
  operator: { principal: 'olga', roles: ['OPERATOR'] },
};

const schema = makeSchema();

/** Asks as this viewer, and gives the statements that were sent for it. */
async function statementsOf(query: string, viewer: Viewer): Promise<Statement[]> {
  sent.length = 0;
  const means = { db, epoch: 'x', site: 'SLAC' } as unknown as Means;
  const answer = await graphql({
    schema,
    source: query,
    contextValue: new Context(means, viewer, 'a test'),
  });
  expect(answer.errors?.map((error) => error.message)).toBeUndefined();
  return [...sent];
}

const fastReads = new FastReads(
  new Complexity(schema, defaultLimits),
  new OpenStores(),
  {
    // Nothing is answered: what would have been sent is kept, and its plan looked at.
    text: async (statement, given) => {
      const { text, parameters, isKept } = statement;
      sent.push({ sql: text, parameters: parametersFor(parameters, given), isKept });
      return null;
    },
    close: async () => undefined,
  },
  {
    warn(facts) {
      throw new Error(JSON.stringify(facts));
    },
  },
);

/** The statement of the fast road; none = it passes the question on. */
async function fastStatementsOf(
  query: string,
  viewer: Viewer,
  variables = {},
): Promise<Statement[]> {
  sent.length = 0;
  await fastReads.answer({ query, operationName: undefined, variables }, viewer);
  return [...sent];
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Actual Rows'?: number;
  readonly 'Actual Loops'?: number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Index Recheck'?: number;
  readonly Plans?: readonly PlanNode[];
}

const nodesOf = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];

function asLiteral(value: unknown): string {
  if (value == null) return 'null';
  if (value instanceof Date) return pg.escapeLiteral(value.toISOString());
  const text = Array.isArray(value)
    ? `{${value.map((item) => JSON.stringify(item)).join()}}`
    : `${value as string | number | boolean}`;
  return pg.escapeLiteral(text);
}

type Explained = pg.QueryResult<{ 'QUERY PLAN': { Plan: PlanNode }[] }>;

const nodesIn = ({ rows }: Explained): PlanNode[] =>
  rows.flatMap((row) => row['QUERY PLAN'].flatMap(({ Plan }) => nodesOf(Plan)));

const explain = 'explain (analyze, timing off, format json)';

/** The plan of a statement as PostgreSQL makes it for these very values, with what it read. */
async function planOf({ sql, parameters }: Statement): Promise<PlanNode[]> {
  return nodesIn(await client.query(`${explain} ${sql}`, [...parameters]));
}

/** The plan that PostgreSQL keeps when the statement is prepared and asked again and again, as the fast road does. */
async function keptPlanOf({ sql, parameters }: Statement): Promise<PlanNode[]> {
  const values = parameters.map(asLiteral);
  const execute = `execute kept${values.length > 0 ? `(${values.join(', ')})` : ''}`;
  await client.query(`prepare kept as ${sql}`);
  try {
    for (let use = 0; use < 5; use++) await client.query(`explain ${execute}`);
    return nodesIn(await client.query(`${explain} ${execute}`));
  } finally {
    await client.query('deallocate kept');
  }
}

const rowsRead = (node: PlanNode) =>
  node['Relation Name'] === undefined
    ? 0
    : ((node['Actual Rows'] ?? 0) +
        (node['Rows Removed by Filter'] ?? 0) +
        (node['Rows Removed by Index Recheck'] ?? 0)) *
      (node['Actual Loops'] ?? 0);

/** What is wrong with the plans of a question; nothing = all by index, and not much of it. */
async function faultsOf(query: string, viewer: Viewer): Promise<string[]> {
  return faultsIn(await statementsOf(query, viewer));
}

/** The same for the fast road, for the first time and for ever after; undefined = it passes the question on. */
async function fastFaultsOf(
  query: string,
  viewer: Viewer,
  variables = {},
): Promise<string[] | undefined> {
  const statements = await fastStatementsOf(query, viewer, variables);
  if (statements.length === 0) return undefined;
  await client.query(plannerSettings);
  try {
    const kept = statements.filter(({ isKept }) => isKept);
    return [...(await faultsIn(statements)), ...(await faultsIn(kept, keptPlanOf))];
  } finally {
    await client.query('reset jit');
  }
}

async function faultsIn(statements: readonly Statement[], plan = planOf): Promise<string[]> {
  const faults: string[] = [];
  for (const statement of statements) {
    const nodes = await plan(statement);
    for (const node of nodes) {
      const table = node['Relation Name'] ?? '';
      if (node['Node Type'] === 'Seq Scan' && bigTables.has(table) && rowsRead(node) > 0) {
        faults.push(`Seq Scan of ${table}`);
      }
    }
    const read = nodes.reduce((sum, node) => sum + rowsRead(node), 0);
    if (read > mostRows) faults.push(`${read} rows read`);
    if (faults.length > 0 && process.env['TEST_LOG']) {
      console.log(statement.sql, statement.parameters);
    }
  }
  return faults;
}

const list = (field: string, filters: readonly string[], node: string, more = ''): string[] =>
  filters.map((filter) => `{ ${field}(filter: {${filter}} ${more}) { nodes { ${node} } } }`);

const datasetFilters = [
  '',
  'name: { eq: "AllEvents-R03-1001" }',
  'name: { in: ["AllEvents-R03-1001", "AllEvents-R03-1002"] }',
  'name: { startsWith: "Inclppbar-R1" }',
  'name: { glob: "Inclppbar*" }',
  'name: { glob: "*R11*" }',
  'kind: [SKIM]',
  'kind: [SKIM, PR]',
  'status: [OPEN]',
  'status: [OPEN, BACKED_UP]',
  'owner: "user5", status: [OPEN, CLOSED, BACKED_UP]',
  'owner: "nobody"',
  'stream: "S3"',
  'release: "R11"',
  'release: "none"',
  'createdAt: { gte: "2023-06-01T00:00:00Z" }',
  'closedAt: { gte: "2023-06-01T00:00:00Z", lt: "2023-06-02T00:00:00Z" }',
  'runs: "50000-51000,52000"',
  'holdsRun: { number: 50001 }',
  'holdsRun: { number: 2147483647 }',
  'minEvents: 3950',
  'sizeBytes: { gte: 4000 }',
  'fileCount: { gte: 100000 }',
  'isBad: true',
  'backupWaived: true',
];
const fileFilters = [
  '',
  'lfn: { eq: "/store/R11/ds3999/f119999" }',
  'lfn: { startsWith: "/store/R11/" }',
  'lfn: { glob: "/store/R11/ds39*/f119999" }',
  'kind: MERGED_FILE',
  'kind: RUN_FILE',
  'stream: "S19"',
  'release: "R11"',
  'release: "none"',
  'stream: "S19", release: "R11"',
  'site: "IN2P3"',
  'site: "nowhere"',
  'runs: "1-50000"',
  'runs: "59000-59100,50000"',
  'holdsRun: { number: 55555 }',
  'dataset: "AllEvents-R11-3998"',
  'minEvents: 4999',
  'minEvents: 6000',
  'sizeBytes: { gte: 120950 }',
  'createdAt: { gte: "2023-06-01T00:00:00Z" }',
  'createdAt: { lt: "2020-01-02T00:00:00Z" }',
  'isBackedUp: true',
  'isBackedUp: false',
];
const runFilters = [
  '',
  'numbers: "59000-59100,50000"',
  'numbers: "1,30000", source: SIMULATION',
  'source: SIMULATION',
  'productionStatus: IN_PRODUCTION',
  'verdict: BAD',
  'verdict: GOOD',
  'conditions: "OFF_PEAK"',
  'conditions: "COSMICS"',
  'stream: "S3"',
  'minEvents: 998',
  'startedAt: { gte: "2023-05-01T00:00:00Z" }',
  'endedAt: { lt: "2020-01-03T00:00:00Z" }',
  'availableAt: { gte: "2023-04-01T00:00:00Z" }',
  'inDataset: "AllEvents-R10-3590"',
];
const backupFilters = [
  '',
  'status: [FAILED]',
  'status: [CONFIRMED]',
  'status: [LOST]',
  'status: [FAILED, REQUESTED], updatedAt: { lt: "2021-01-01T00:00:00Z" }',
  'updatedAt: { gte: "2023-05-31T00:00:00Z" }',
  'requestedAt: { gte: "2023-05-31T00:00:00Z" }',
  'status: [REQUESTED], requestedAt: { gte: "2023-05-31T00:00:00Z" }',
  'store: "second"',
  'store: "hpss", status: [FAILED]',
  'dataset: "AllEvents-R11-3998"',
  'dataset: "AllEvents-R11-3998", status: [FAILED]',
  'lfn: { eq: "/store/R11/ds3999/f119999" }',
  'lfn: { startsWith: "/store/R11/ds3999/" }',
  'errorCode: "NO_SPACE"',
  'errorCode: "UNKNOWN"',
];
const eventFilters = [
  '',
  'kind: [DATASET_STATUS]',
  'kind: [RUN_STATUS, DATASET_STATUS]',
  'kind: [BACKUP_STATUS]',
  'kind: [MERGE_RECORDED]',
  'dataset: "AllEvents-R11-3998"',
  'lfn: "/store/R11/ds3999/f119999"',
  'run: 55555',
  'run: 2147483647',
  'actor: "user5"',
  'actor: "worker"',
  'actor: "nobody"',
  'occurredAt: { gte: "2025-01-02T00:00:00Z", lt: "2025-01-02T02:00:00Z" }',
  'occurredAt: { gte: "2030-01-01T00:00:00Z" }',
];
const name = '"AllEvents-R11-3998"';
const lfn = '"/store/R11/ds3998/f119950"';

/** What everybody may ask; `backupRecords` stands apart. */
const questions = [
  ...list('datasets', datasetFilters, 'name luminosity runRange { first } badMark { reason }'),
  ...['CREATED_AT_DESC', 'CLOSED_AT_DESC', 'SIZE_DESC', 'EVENTS_DESC', 'FILES_DESC'].flatMap(
    (order) => list('datasets', ['', 'kind: [PR]', 'stream: "S3"'], 'name', `orderBy: ${order}`),
  ),
  ...list('files', fileFilters, 'lfn backups { status } datasets { nodes { name } }'),
  ...list('files', ['', 'stream: "S19"'], 'lfn', 'orderBy: CREATED_AT_DESC'),
  ...list('runs', runFilters, 'number datasets { nodes { name } }'),
  ...list('runs', ['', 'source: DATA', 'verdict: GOOD'], 'number', 'orderBy: AVAILABLE_AT_DESC'),
  ...list('events', eventFilters, 'kind dataset { name } file { lfn } run { number }'),
  ...list('events', eventFilters, 'kind', 'orderBy: NEWEST_FIRST'),
  `{ dataset(name: ${name}) { files { totalCount nodes { lfn } } } }`,
  `{ dataset(name: ${name}) { files(filter: { lfn: { startsWith: "/store/R11/ds3998/f11995" } minEvents: 1 }) { nodes { lfn } } } }`,
  `{ dataset(name: ${name}) { runs(minEvents: 10, verdict: GOOD, filter: { source: DATA }) { totalCount nodes { number files { nodes { lfn } } } } } }`,
  '{ dataset(name: "Everything") { files(filter: { isBackedUp: true }) { nodes { lfn } } runs { nodes { number } } } }',
  '{ files(filter: { dataset: "Everything" }) { nodes { lfn } } }',
  `{ dataset(name: ${name}) { history { nodes { kind } } } }`,
  `{ datasetRuns(datasets: [${name}, "AllEvents-R11-3999"], goodRunsOnly: true, minEvents: 5) { totals { luminosity } nodes { run { number } dataset { name } } } }`,
  `{ file(lfn: ${lfn}) { inputs { nodes { lfn } } mergedInto { lfn } parents { nodes { lfn } } children { nodes { lfn } } runs { nodes { number } }
     up: ancestry { nodes { generation file { lfn } } } down: ancestry(direction: DESCENDANTS) { nodes { file { lfn } } } } }`,
  `{ run(number: 50001) { files { nodes { lfn } } datasets { totalCount nodes { name } } history { nodes { kind } } } }`,
];

describe.each(Object.entries(viewers))('asked by %s', (who, viewer) => {
  const asked =
    who === 'operator'
      ? [...questions, ...list('backupRecords', backupFilters, 'status file { lfn }')]
      : questions;
  let byFastRoad = 0;
  test.each(asked)('%s', async (query) => {
    expect(await faultsOf(query, viewer)).toEqual([]);
    const fast = await fastFaultsOf(query, viewer);
    if (fast) byFastRoad++;
    expect(fast ?? []).toEqual([]);
  });

  test('and most of it by the fast road', () => {
    expect(byFastRoad / asked.length).toBeGreaterThan(0.5);
  });
});

const pages: [string, Record<string, unknown>][] = [
  [
    'query ($name: String!) { dataset(name: $name) { name status fileCount badMark { reason } } }',
    { name: 'AllEvents-R11-3998' },
  ],
  [
    'query ($name: String!, $first: Int, $after: String) { dataset(name: $name) { files(first: $first, after: $after) { nodes { lfn backups { status } } } } }',
    {
      name: 'Everything',
      first: 100,
      after: writeCursor('files:lfn', ['/store/R06/ds2000/f60000']),
    },
  ],
  [
    'query ($first: Int, $after: String) { files(first: $first, after: $after) { nodes { lfn backups { status } } pageInfo { endCursor hasNextPage } } }',
    { first: 100, after: writeCursor('files:lfn', ['/store/R06/ds2000/f60000']) },
  ],
  [
    'query ($first: Int) { datasets(first: $first, orderBy: SIZE_DESC) { nodes { name } pageInfo { endCursor } } }',
    { first: 100 },
  ],
  [
    'query ($first: Int) { runs(first: $first) { nodes { number datasets(first: $first) { nodes { name } } } } }',
    { first: 20 },
  ],
  [
    'query ($lfn: String!) { file(lfn: $lfn) { backups { status } runs { nodes { number } } datasets { nodes { name } } } }',
    { lfn: '/store/R11/ds3998/f119950' },
  ],
];

describe.each(Object.entries(viewers))('kept for %s', (_who, viewer) => {
  test.each(pages)('%s', async (query, variables) => {
    const statements = await fastStatementsOf(query, viewer, variables);
    const ofDataset = query.includes('dataset(name');
    expect(statements.map(({ isKept }) => isKept || !ofDataset)).toEqual([true]);
    expect(await fastFaultsOf(query, viewer, variables)).toEqual([]);
  });
});

/** Each of them by itself is missed. */
const missed: [index: string, query: string, viewer: Viewer][] = [
  ['files_by_kind', '{ files(filter: { kind: MERGED_FILE }) { nodes { lfn } } }', anonymous],
  ['files_by_release', '{ files(filter: { release: "R11" }) { nodes { lfn } } }', anonymous],
  ['files_by_creation', '{ files(orderBy: CREATED_AT_DESC) { nodes { lfn } } }', anonymous],
  [
    'dataset_files_by_lfn',
    '{ dataset(name: "Everything") { files { nodes { lfn } } } }',
    anonymous,
  ],
  [
    'events_by_kind',
    '{ events(filter: { kind: [BACKUP_STATUS] }) { nodes { kind } } }',
    viewers['operator'] ?? anonymous,
  ],
  ['events_for_all', '{ events { nodes { kind } } }', anonymous],
  [
    'events_by_time',
    '{ events(filter: { occurredAt: { gte: "2025-01-02T00:00:00Z" } }) { nodes { kind } } }',
    viewers['operator'] ?? anonymous,
  ],
  [
    'backup_records_by_change',
    '{ backupRecords(filter: { status: [CONFIRMED], updatedAt: { gte: "2023-05-31T00:00:00Z" } }) { nodes { status } } }',
    viewers['operator'] ?? anonymous,
  ],
  ['dataset_runs_by_run', '{ run(number: 50001) { datasets { nodes { name } } } }', anonymous],
];

test.each(missed)('without %s a plan is found at fault', async (index, query, viewer) => {
  const statements = await statementsOf(query, viewer);
  await client.query('begin');
  try {
    await client.query(`drop index ${index}`);
    expect(await faultsIn(statements)).not.toEqual([]);
  } finally {
    await client.query('rollback');
  }
});

describe('where next to nothing is published', () => {
  beforeAll(async () => {
    await database.sql(`update datasets set status = 'OPEN', closed_at = null, owner = case when id < 5 then owner else 'producer' end
      where id not in (17, 3000)`);
    await database.sql('vacuum analyze datasets');
  });

  test.each(
    [anonymous, { principal: 'user3', roles: ['USER'] } as Viewer].flatMap((viewer) =>
      [
        '',
        'kind: MERGED_FILE',
        'stream: "S16"',
        'release: "R8"',
        'lfn: { startsWith: "/store/" }',
        'isBackedUp: true',
      ].map((filter) => ({ who: viewer.principal, viewer, filter })),
    ),
  )('$who finds files ($filter) from the side of the datasets', async ({ viewer, filter }) => {
    for (const query of list('files', [filter], 'lfn')) {
      expect(await faultsOf(query, viewer)).toEqual([]);
    }
  });
});
