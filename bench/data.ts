import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { openEmbeddedPostgres } from '../src/database/embedded.ts';
import { migrate } from '../src/database/migrate.ts';
import { migrationFiles } from '../src/database/orm.ts';

/** How much there is: datasets of so many files each. */
export interface Size {
  readonly datasets: number;
  readonly filesEach: number;
}

export interface BenchCluster {
  /** The address of a database of this cluster. */
  urlOf(database: string): string;
  sql<Row extends pg.QueryResultRow>(
    database: string,
    text: string,
    values?: unknown[],
  ): Promise<Row[]>;
  close(): Promise<void>;
}

const folder = join(tmpdir(), 'sweepbook-bench');

/** The PostgreSQL of the measurements: its own, in the system's temporary folder; removed at the end, or kept. */
export async function openCluster(keep: boolean): Promise<BenchCluster> {
  mkdirSync(folder, { recursive: true });
  const postgres = await openEmbeddedPostgres({ folder: join(folder, 'postgres'), log: () => {} });
  const urlOf = (database: string) => {
    const url = new URL(postgres.url);
    url.pathname = `/${database}`;
    return url.href;
  };
  const sql: BenchCluster['sql'] = async (database, text, values) =>
    withClient(urlOf(database), async (client) => (await client.query(text, values)).rows);
  return {
    urlOf,
    sql,
    async close() {
      await postgres.close();
      if (!keep) rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function withClient<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export const datasetName = (number: number): string => `bench-${String(number).padStart(6, '0')}`;

/** The statements that fill a database, each on its own connection where they do not depend on each other. */
function loading({ datasets, filesEach }: Size): string[][] {
  const files = datasets * filesEach;
  const kind = `(array['SP','SP','SP','PR','SKIM'])[1 + d % 5]`;
  const lfn = `format('/store/%s/R24/%s/file%s.root', ${kind}, lpad(d::text, 6, '0'), lpad((n % ${filesEach})::text, 6, '0'))`;
  const of = `generate_series(0, ${files - 1}) n, lateral (select n / ${filesEach} as d) x`;
  const bytes = `${filesEach}::bigint * 2000000000 - ${(filesEach * (filesEach - 1)) / 2}`;
  const hex = (salt: string) => `md5(n::text || '${salt}')`;
  return [
    [
      `insert into runs (source, number, started_at, ended_at, event_count, luminosity, conditions, production_status,
         available_at)
       select 'DATA', 10000 + d, timestamptz '2026-01-01' + d * interval '1 hour',
         timestamptz '2026-01-01' + d * interval '1 hour' + interval '50 minutes', 1000000, 0.5, 'ON_PEAK', 'AVAILABLE',
         timestamptz '2026-02-01'
       from generate_series(0, ${datasets - 1}) d`,
      `insert into datasets (name, kind, status, owner, stream, release, description, file_count, confirmed_count,
         size_bytes, event_count, created_at, created_by, backed_up_at, closed_at, run_count, luminosity,
         luminosity_run_count, first_run, last_run)
       select format('bench-%s', lpad(d::text, 6, '0')), ${kind}, 'CLOSED', 'producer', 'AllEvents', 'R24',
         'made for a measurement', ${filesEach}, ${filesEach}, ${bytes}, ${filesEach}::bigint * 15000,
         timestamptz '2026-01-01' + d * interval '1 minute', 'producer', timestamptz '2026-03-01',
         timestamptz '2026-03-01' + d * interval '1 second', 1, 0.5, 1, 10000 + d, 10000 + d
       from generate_series(0, ${datasets - 1}) d`,
    ],
    [
      `insert into files (id, lfn, kind, site_id, stream, release, size_bytes, adler32, sha256, event_count,
         confirmed_copies, missing_copies, created_at, created_by)
       overriding system value
       select n + 1, ${lfn}, 'MERGED_FILE', (select min(id) from sites), 'AllEvents', 'R24', 2000000000 - n % ${filesEach},
         left(${hex('a')}, 8), ${hex('b')} || ${hex('c')}, 15000, 1, 0, timestamptz '2026-01-02', 'producer'
       from ${of}`,
      `insert into dataset_files (dataset_id, file_id, lfn, added_by)
       select d + 1, n + 1, ${lfn}, 'producer' from ${of}`,
      `insert into file_runs (file_id, run_id, event_count) select n + 1, d + 1, 15000 from ${of}`,
      `insert into backup_records (file_id, store_id, status, requested_by, requested_at, attempt, answered_attempt,
         worker, store_key, stored_size_bytes, stored_adler32, stored_sha256, evidence, copied_at, confirmed_at)
       select n + 1, (select min(id) from mass_stores), 'CONFIRMED', 'producer', timestamptz '2026-01-02', 1, 1,
         'worker', substr(${lfn}, 2), 2000000000 - n % ${filesEach}, left(${hex('a')}, 8), ${hex('b')} || ${hex('c')},
         '{"asked":"size and checksums","answer":"all equal","askedAt":"2026-01-03T00:00:00Z"}',
         timestamptz '2026-01-03', timestamptz '2026-01-03 00:00:01'
       from ${of}`,
      `insert into dataset_runs (dataset_id, source, number, run_id, file_count, event_count, size_bytes)
       select d + 1, 'DATA', 10000 + d, d + 1, ${filesEach}, ${filesEach}::bigint * 15000, ${bytes}
       from generate_series(0, ${datasets - 1}) d`,
    ],
    // The totals, as the triggers would have left them once all is folded.
    [
      `insert into file_totals
       select store.id, site_id, kind, stream, release, count(*), sum(event_count), sum(size_bytes),
         case when store.id is null then count(*) else 0 end, case when store.id is null then sum(event_count) else 0 end,
         case when store.id is null then sum(size_bytes) else 0 end,
         case when store.id is null then count(*) else 0 end, case when store.id is null then sum(event_count) else 0 end,
         case when store.id is null then sum(size_bytes) else 0 end
       from files cross join (values (null), (1)) store (id) group by store.id, site_id, kind, stream, release`,
      'insert into counted_datasets select id from datasets',
    ],
  ];
}

/** Names of the database of this size; made when it is not there, or made by other migrations. */
export async function ensureData(
  cluster: BenchCluster,
  size: Size,
  purpose = 'bench',
): Promise<string> {
  const name = `${purpose}_${size.datasets}x${size.filesEach}`;
  const made = JSON.stringify([migrationFiles(), loading(size)]);
  const stamp = createHash('sha256').update(made).digest('hex').slice(0, 16);
  const [known] = await cluster.sql<{ stamp: string | null }>(
    'postgres',
    `select shobj_description(oid, 'pg_database') as stamp from pg_database where datname = $1`,
    [name],
  );
  if (known?.stamp === stamp) return name;
  process.stderr.write(`filling ${name} …\n`);
  const begun = Date.now();
  await cluster.sql('postgres', `drop database if exists "${name}" with (force)`);
  await cluster.sql('postgres', `create database "${name}"`);
  const url = cluster.urlOf(name);
  await migrate(url);
  await withClient(url, (client) =>
    client.query(`insert into sites (name) values ('local');
      insert into mass_stores (site_id, name, kind, root, is_default) values (1, 'default', 'directory', '/store', true)`),
  );
  await withoutGuards(cluster, name, async () => {
    for (const step of loading(size)) await inPairs(step, url);
  });
  await withClient(url, (client) => client.query('vacuum (analyze)'));
  await cluster.sql('postgres', `comment on database "${name}" is '${stamp}'`);
  process.stderr.write(`filled ${name} in ${Math.round((Date.now() - begun) / 1000)} s\n`);
  return name;
}

/** Two statements at once: there are hosts with two cores. */
async function inPairs(statements: readonly string[], url: string): Promise<void> {
  const waiting = [...statements];
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const text = next;
      await withClient(url, async (client) => {
        await client.query('set session_replication_role = replica');
        await client.query(text);
      });
    }
  };
  await Promise.all([work(), work()]);
}

/**
 * The log is left out, and with it the triggers that write it; checks and indexes come back after the rows. A crash
 * of the machine meanwhile would cost no more than this database.
 */
async function withoutGuards(
  cluster: BenchCluster,
  database: string,
  work: () => Promise<void>,
): Promise<void> {
  const tables = [
    'runs',
    'datasets',
    'files',
    'dataset_files',
    'file_runs',
    'backup_records',
    'dataset_runs',
    'file_totals',
    'counted_datasets',
  ];
  const url = cluster.urlOf(database);
  const later = await withClient(url, (client) => takeOff(client, tables));
  await unsafeButFast(cluster, true);
  try {
    await work();
    await withClient(url, async (client) => {
      await client.query(`set maintenance_work_mem = '1GB'`);
      for (const statement of later) await client.query(statement);
      await client.query(
        `select setval(pg_get_serial_sequence('files', 'id'), max(id)) from files`,
      );
    });
  } finally {
    await unsafeButFast(cluster, false);
  }
}

/** Takes off triggers, checks, foreign keys and indexes; answers what puts them back as they were. */
async function takeOff(client: pg.Client, tables: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ away: string; back: string }>(
    `select format('alter table %s disable trigger %I', tgrelid::regclass, tgname) as away,
        format('alter table %s enable %s trigger %I', tgrelid::regclass,
          case tgenabled when 'A' then 'always' else '' end, tgname) as back, 1 as place
      from pg_trigger where not tgisinternal and tgrelid = any ($1::regclass[])
     union all
     select format('alter table %s drop constraint %I', conrelid::regclass, conname),
        format('alter table %s add constraint %I %s%s', conrelid::regclass, conname, pg_get_constraintdef(oid),
          case when contype in ('c', 'f') then ' not valid' else '' end),
        case contype when 'f' then 2 else 3 end
      from pg_constraint where contype in ('c', 'f') and conrelid = any ($1::regclass[])
     union all
     select format('drop index %s', indexrelid::regclass), pg_get_indexdef(indexrelid), 4
      from pg_index i where indrelid = any ($1::regclass[])
        and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
     union all
     select format('alter table %s drop constraint %I cascade', conrelid::regclass, conname),
        format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), 5
      from pg_constraint where contype in ('p', 'u') and conrelid = any ($1::regclass[])
        and conrelid::regclass::text in ('dataset_files', 'file_runs', 'backup_records')
     order by place`,
    [tables],
  );
  for (const { away } of rows) await client.query(away);
  return rows.map(({ back }) => back).toReversed();
}

async function unsafeButFast(cluster: BenchCluster, on: boolean): Promise<void> {
  const settings = {
    fsync: 'off',
    full_page_writes: 'off',
    synchronous_commit: 'off',
    max_wal_size: `'8GB'`,
    autovacuum: 'off',
  };
  for (const [name, value] of Object.entries(settings)) {
    await cluster.sql(
      'postgres',
      on ? `alter system set ${name} = ${value}` : `alter system reset ${name}`,
    );
  }
  await cluster.sql('postgres', 'select pg_reload_conf()');
}

/** Whether anything of an earlier measurement is there. */
export const isKept = (): boolean => existsSync(folder);
