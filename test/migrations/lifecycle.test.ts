import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lifecycleText } from '../../scripts/lifecycle-text.ts';
import { roles } from '../../src/access/policy.ts';
import { backupSteps, backupStatuses } from '../../src/backups/backups.rules.ts';
import { replicaStatuses, replicaSteps } from '../../src/files/files.rules.ts';
import {
  importFileStatuses,
  importStatuses,
  importSteps,
} from '../../src/imports/imports.rules.ts';
import {
  findings,
  incidentStatuses,
  incidentSteps,
  itemStatuses,
  lossKinds,
} from '../../src/incidents/incidents.rules.ts';
import { datasetKinds, datasetStatuses, datasetSteps } from '../../src/datasets/datasets.rules.ts';
import { eventKinds, type Step } from '../../src/events/events.rules.ts';
import {
  productionStatuses,
  runSources,
  runSteps,
  runVerdicts,
} from '../../src/runs/runs.rules.ts';
import { noticeKinds, webhookScopes, webhookStatuses } from '../../src/notices/webhooks.rules.ts';
import { poolCopyStatuses, poolCopySteps } from '../../src/pools/pools.rules.ts';
import {
  publicationStatuses,
  publicationSteps,
} from '../../src/publications/publications.rules.ts';
import { suspicionStates, suspicionSteps } from '../../src/suspicions/suspicions.rules.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

const sorted = (values: readonly string[]) => values.toSorted();

test.each<[string, readonly Step<string>[]]>([
  ['dataset', datasetSteps],
  ['backup', backupSteps],
  ['run', runSteps],
  ['replica', replicaSteps],
  ['incident', incidentSteps],
  ['suspicion', suspicionSteps],
  ['import', importSteps],
  ['pool copy', poolCopySteps],
  ['publication', publicationSteps],
])('the database knows the steps of a %s that the rules know', async (noun, steps) => {
  const rows = await database.sql<{ step: string }>(
    `select from_state || ' > ' || to_state as step from lifecycle where noun = $1`,
    [noun],
  );
  const known = steps.map((step) => `${step.from} > ${step.to}`);
  expect(sorted(rows.map((row) => row.step))).toEqual(sorted(known));
});

test('the database knows no other noun with a life', async () => {
  const nouns = await database.sql(`select distinct noun from lifecycle order by noun`);
  const known = [
    'backup',
    'dataset',
    'import',
    'incident',
    'pool copy',
    'publication',
    'replica',
    'run',
    'suspicion',
  ];
  expect(nouns).toEqual(known.map((noun) => ({ noun })));
});

/** The words that the check constraints of a column allow. */
async function allowed(table: string, column: string): Promise<string[]> {
  const rows = await database.sql<{ rule: string }>(
    `select pg_get_constraintdef(c.oid) as rule from pg_constraint c
     join pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]
     where c.conrelid = $1::regclass and c.contype = 'c' and a.attname = $2`,
    [table, column],
  );
  return sorted(
    rows.flatMap(({ rule }) => [...rule.matchAll(/'(\w+)'::text/g)].map((m) => m[1] ?? '')),
  );
}

test.each<[string, string, readonly string[]]>([
  ['events', 'kind', eventKinds],
  ['tokens', 'roles', roles],
  ['datasets', 'status', datasetStatuses],
  ['datasets', 'kind', datasetKinds],
  ['backup_records', 'status', backupStatuses],
  ['runs', 'production_status', productionStatuses],
  ['runs', 'source', runSources],
  ['runs', 'verdict', runVerdicts],
  ['replicas', 'status', replicaStatuses],
  ['incidents', 'status', incidentStatuses],
  ['incidents', 'what', lossKinds],
  ['incident_items', 'finding', findings],
  ['incident_items', 'status', itemStatuses],
  ['suspicions', 'state', suspicionStates],
  ['imports', 'status', importStatuses],
  ['import_files', 'status', importFileStatuses],
  ['pool_copies', 'status', poolCopyStatuses],
  ['publications', 'status', publicationStatuses],
  ['webhooks', 'kinds', noticeKinds],
  ['webhooks', 'scope', webhookScopes],
  ['webhooks', 'status', webhookStatuses],
])('the database takes the words in %s.%s that the program knows', async (table, column, words) => {
  expect(await allowed(table, column)).toEqual(sorted(words));
});

test('docs/lifecycle.md is what the rules say', () => {
  const written = readFileSync(new URL('../../docs/lifecycle.md', import.meta.url), 'utf8');
  expect(written, 'run "npm run lifecycle" and commit docs/lifecycle.md').toBe(lifecycleText());
});
