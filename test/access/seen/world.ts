import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { roles, type AnyRole } from '../../../src/access/policy.ts';
import { readConfig } from '../../../src/config.ts';
import { openSweepbook } from '../../../src/main.ts';
import {
  container,
  dataset,
  file,
  incident,
  listed,
  openWorld,
  run,
  waived,
} from '../../migrations/world.ts';
import { writePublishFile } from '../../publications/site.ts';
import { clientOf, type Refusal } from '../../support/client.ts';

export interface Viewer {
  readonly name: string;
  readonly principal: string;
  readonly role: AnyRole;
  /** The others see as these do. */
  readonly onBothRoads?: boolean;
  token?: string | undefined;
}

/** anna owns the datasets of the world; uma publishes, and what is shared with her group is shown to her. */
export const viewers: readonly Viewer[] = [
  { name: 'ANONYMOUS', principal: 'nobody', role: 'ANONYMOUS', onBothRoads: true },
  ...roles.map((role) => ({
    name: role,
    principal: `some-${role}`,
    role,
    onBothRoads: role === 'DQM',
  })),
  { name: 'USER who owns it', principal: 'anna', role: 'USER', onBothRoads: true },
  { name: 'USER with whom it is shared', principal: 'uma', role: 'USER', onBothRoads: true },
];

export interface SeenWorld {
  readonly address: string;
  /** Of an admin, who sees all of it. */
  readonly admin: string | undefined;
  sql<Row extends object>(text: string): Promise<Row[]>;
  /** What comes back. `plain`: not by the fast road. */
  post(
    query: string,
    token: string | undefined,
    plain?: boolean,
  ): Promise<{ data?: unknown; errors?: Refusal[] }>;
  close(): Promise<void>;
}

/** The world of test/migrations/world.ts with all that it leaves empty, and a server; the viewers have their tokens. */
export async function openSeenWorld(): Promise<SeenWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-fields-'));
  const database = await openWorld();
  for (const [table, values] of Object.entries(filled)) {
    await database.sql(past(table, `update ${table} set ${values}`));
  }
  // A server forgets at its start what its files do not name.
  await database.sql(backupPolicies + planted);
  const server = await openSweepbook(
    readConfig({
      SWEEPBOOK_HOME: folder,
      SWEEPBOOK_PORT: '0',
      DATABASE_URL: database.url,
      SWEEPBOOK_PUBLISH: writePublishFile(folder),
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_WEBHOOKS: 'false',
      SWEEPBOOK_SHUTDOWN_SECONDS: '1',
      SWEEPBOOK_LIMIT_RATE: '0',
      SWEEPBOOK_LIMIT_ANONYMOUS_RATE: '0',
    }),
    pino({ level: process.env['TEST_LOG'] ?? 'silent' }),
  );
  await database.sql(backupPolicies + aToken);
  const admin = clientOf(server.address, server.token);
  for (const viewer of viewers.slice(1)) {
    const made = await admin.call<{ createToken: { token: string } }>(
      'mutation ($input: CreateTokenInput!) { createToken(input: $input) { token } }',
      { input: { principal: viewer.principal, roles: [viewer.role], note: 'a test' } },
    );
    viewer.token = made.createToken.token;
  }
  return {
    address: server.address,
    admin: server.token,
    sql: (text) => database.sql(text),
    async post(query, token, plain = false) {
      const response = await fetch(`${server.address}/graphql`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify({ query, ...(plain ? { extensions: {} } : {}) }),
      });
      return (await response.json()) as { data?: unknown; errors?: Refusal[] };
    },
    async close() {
      await server.close();
      // Raw SQL is not the whole of what the program would have written.
      await database.close({ check: false });
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Past the guards. */
const past = (table: string, ...statements: string[]) =>
  `alter table ${table} disable trigger user; ${statements.join(';')}; alter table ${table} enable trigger user;`;

/** What the world leaves empty; past the guards, which would have it told earlier. */
const filled: Record<string, string> = {
  runs: `started_at = '2026-01-01', conditions = 'c', luminosity = 1.5, event_count = 30,
    verdict_comment = case when verdict is not null then 'fine' end`,
  datasets: `description = 'd', release = 'r', stream = 's', tree_name = 't',
    luminosity = 1.5, luminosity_run_count = least(run_count, 1)`,
  backup_records: `copied_at = now(), last_error_code = 'NO_SPACE', store_key = coalesce(store_key, 'key'),
    awaits_tape_since = case when status = 'COPIED' then now() end,
    next_look_at = case when status = 'COPIED' then now() end,
    last_error = case when file_id = ${file('/merged/2')} or status in ('REQUESTED', 'COPYING') then 'the store is full' else last_error end,
    next_attempt_at = now() + interval '1 hour', failure_count = 1,
    status = case when file_id = ${file('/merged/2')} then 'FAILED' else status end`,
  containers: `description = 'd', luminosity = 1.5, luminosity_run_count = 1`,
  container_changes: `reason = 'r', luminosity = 1.5, luminosity_change = 0.5`,
  incidents: `since = '2026-01-01'`,
  replica_checks: `last_error = 'e', last_error_code = 'X'`,
  imports: `last_error_code = 'X', signed_by = 'k', origin = '{"site": "FOREIGN", "exportedAt": "2026-01-02T00:00:00Z",
      "dataset": {"id": "x", "name": "there", "kind": "PR", "owner": "otto", "closedAt": "2026-01-01T00:00:00Z", "origins": []}}',
    requested_by = case id when 101 then 'some-IMPORTER' else requested_by end`,
  import_files: `last_error = 'HTTP 404', last_error_code = 'NOT_FOUND', fetched_from = 'https://far.example.org/x',
    urls = '{https://far.example.org/x}'`,
  publications: `charged_group = 'world', release = 'r', stream = 's', tree_name = 't', decided_by = 'olga', decided_at = now(),
    event_count = 10, last_error = 'e', last_error_code = 'X',
    dataset_id = case when dataset_name = 'p-gone' then ${dataset('closed')} end,
    status = case when dataset_name = 'p-gone' then 'PUBLISHED' else status end`,
  publication_files: `fault = case when name = 'a' then 'f' end, fault_code = case when name = 'a' then 'X' end, member_offset = 512`,
  groups: `description = 'd'`,
  suspicions: `last_error = 'e', worker = 'w1'`,
  stage_requests: `released_by = 'olga', released_at = now()`,
  pool_copies: `last_error = 'e', last_error_code = 'X', failure_count = 1,
    next_attempt_at = now() + interval '1 hour',
    status = case file_id when ${file('/merged/new')} then 'FAILED' when ${file('/merged/requested')} then 'REQUESTED' else status end`,
  pools: `urls = '{"root": "root://pool.example.org/{path}"}'`,
};

const backupPolicies = `
  insert into backup_policies (position, store_ids, kind, min_bytes, max_bytes)
    select 1, array_agg(id), 'MERGED_FILE', 1, 1000000000 from (select id from mass_stores order by id limit 8) s;`;
const aToken = past(
  'tokens',
  `insert into tokens (principal, roles, prefix, secret_sha256, expires_at, revoked_at, scopes, sites)
    values ('x', '{USER}', '0123456789ab', sha256('x'), now(), now(), '{read}', '{SLAC}')`,
  `insert into tokens (principal, roles, prefix, secret_sha256, revoked_at, replaces)
    select 'x', '{USER}', '0123456789ac', sha256('y'), now(), id from tokens where prefix = '0123456789ab'`,
);

/** What the world has none of. */
const planted = `
  ${past('files', `update files set release = 'r', policy_id = (select max(id) from backup_policies)`)}
  ${past('file_parents', `insert into file_parents (file_id, parent_id) values (${file('/merged/there')}, ${file('/merged/disk')})`)}
  ${past('file_runs', `insert into file_runs (file_id, run_id) values (${file('/merged/disk')}, ${run(2)})`)}
  ${past(
    'container_datasets',
    `insert into container_datasets (container_id, dataset_id, suspended) values (${container('list')}, ${dataset('scratch')}, true)`,
  )}
  update runs set verdict = 'BAD', verdict_comment = 'torn' where number = 1;
  update runs set verdict = 'GOOD', verdict_comment = 'mended' where number = 1;
  ${waived('of-otto', '/merged/safe').replace("'anna'", "'otto'")}
  ${listed('list', 'of-otto')}
  ${past(
    'incident_items',
    `insert into incident_items (incident_id, ordinal, file_id, replica_id, finding, status, is_lost, is_unbacked, restored_at)
      values (${incident('d1')}, 11, ${file('/run/3a')}, 1, 'SAFE', 'HIT', false, false, null),
        (${incident('d1')}, 12, ${file('/run/3b')}, 1, 'RECOVERABLE', 'RESTORED', false, false, now())`,
  )}
  ${past(
    'incident_datasets',
    `insert into incident_datasets (incident_id, dataset_id, file_count, hit_count, lost_total, unbacked_total, lost_count,
      unbacked_count) values (${incident('d1')}, ${dataset('of-otto')}, 1, 1, 1, 0, 1, 0)`,
  )}
  insert into bad_marks (dataset_id, incident_id, reason) values (${dataset('of-otto')}, ${incident('d1')}, 'lost');
  ${past(
    'incidents',
    `update incidents set item_count = 5, safe_count = 1, recoverable_count = 1, restored_count = 2
      where id = ${incident('d1')}`,
  )}
  insert into stage_requests (pool_id, principal, dataset_id, digest, file_count, size_bytes, pin_seconds)
    select pool_id, 'uma', ${dataset('closed')}, 'of uma', 9, 1, 60 from stage_requests;
  insert into stage_items (request_id, copy_id)
    select r.id, c.id from stage_requests r, pool_copies c where r.digest = 'of uma';
  insert into publication_quotas (kind, name, files, bytes, running) values ('USER', 'uma', 10, 1000, 2);
  ${past(
    'webhooks',
    `insert into webhooks (owner, url, kinds, names, status, disabled_at, disabled_reason, salt, key_id, epoch, told_xid, told_id,
      last_attempt_at, last_notice, last_status, last_attempts, last_error, failure_count, first_failed_at)
    select 'uma', 'https://hooks.example.org/x', '{DATASET_CLOSED}', '{"eq": "x", "glob": "x*", "startsWith": "x", "in": ["x"]}',
      s, case s when 'DISABLED' then now() end, case s when 'DISABLED' then 'r' end, repeat('0', 16)::bytea, '0123456789ab', '',
      '1', 1, now(), 'notice', 500, 1, 'HTTP 500', 1, now() from unnest('{ENABLED,DISABLED}'::text[]) s`,
  )}
  ${past(
    'follow_rules',
    `insert into follow_rules (site, store_id, created_by, looked_at, last_error_code, last_error)
    select 'FOREIGN', min(id), 'some-IMPORTER', now(), 'UNAVAILABLE', 'HTTP 500' from mass_stores`,
  )}
  insert into followed_datasets (rule_id, name, import_id, error_code, error, bad_reason)
    select id, 'there', 101, 'X', 'e', 'torn' from follow_rules;
  insert into followed_departures (rule_id, name, left_at, reason) select id, 'there', now(), 'old' from follow_rules;
  ${past(
    'identities',
    `insert into identities (principal, issuer, subject, roles, groups, sites, last_seen_from, blocked_at, blocked_by, blocked_reason)
    values ('x@y', 'https://issuer.example.org', 'x', '{USER}', '{g}', '{}', '127.0.0.1', now(), 'olga', 'left')`,
  )}
  ${past(
    'audits',
    `insert into audits (store_id, what, state, finished_at, detail, wrong_count, looked_count)
    select min(id), 'COMPARE', 'ALARM', now(), 'd', 1, 2 from mass_stores`,
    `insert into audits (store_id, what, worker, lease_until) select min(id), 'READ_BACK', 'w1', now() + interval '1 hour' from mass_stores`,
  )}
  ${past(
    'audit_findings',
    `insert into audit_findings (audit_id, backup_id, store_key, what, says, evidence, outcome)
    select min(a.id), min(b.id), 'key', 'BAD', 'torn', '{}', 'LOST' from audits a, backup_records b`,
  )}
  insert into store_tests (store_id, host, passed, is_conclusive, findings)
    select min(id), 'h', false, true,
      '[{"step": "s", "asking": "a", "expected": "e", "got": "g", "reason": "r"}]' from mass_stores;
  insert into audit_trail (principal, roles, token_prefix, address, kind, operation, field, outcome, code, request_id, kept_until)
    values ('x', '{USER}', 'abc', '127.0.0.1', 'QUERY', 'o', 'f', 'REFUSED', 'FORBIDDEN', 'r', now());
  insert into audit_trail (principal, roles, issuer, subject, jti, kind, field, outcome)
    values ('x', '{USER}', 'i', 's', 'j', 'QUERY', 'f', 'DONE');`;
