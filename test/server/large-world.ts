import type { TestDatabase } from '../support/database.ts';

/** How much there is of everything. A release, a stream, a time lie together, as they do in production. */
export const size = { runs: 60_000, runFiles: 120_000, mergedFiles: 120_000, datasets: 4000 };

const filesPerDataset = size.mergedFiles / size.datasets;

/** Loaded beside the triggers, which would take an hour: what they keep is computed here. */
const steps: readonly string[] = [
  `insert into sites (name) values ('SLAC'), ('IN2P3');
   insert into mass_stores (site_id, name, kind, root, is_default) select min(id), 'hpss', 'directory', '/s', true from sites;
   insert into mass_stores (site_id, name, kind, root) select min(id), 'second', 'directory', '/t' from sites;`,
  `insert into runs (source, number, started_at, ended_at, event_count, luminosity, conditions, production_status,
     available_at, verdict, verdict_at)
   select case when n % 6 = 0 then 'SIMULATION' else 'DATA' end, n, t, t + interval '1 hour', n % 1000, 0.5,
     case when n % 10 = 0 then 'OFF_PEAK' else 'ON_PEAK' end, case when done then 'AVAILABLE' else 'IN_PRODUCTION' end,
     case when done then t + interval '1 day' end, case when done then case when n % 50 = 0 then 'BAD' else 'GOOD' end end,
     case when done then t end
   from (select n, timestamptz '2020-01-01 00:00Z' + n * interval '30 minutes' as t, n < ${size.runs * 0.99} as done
         from generate_series(1, ${size.runs}) n) r`,
  `insert into files (lfn, kind, site_id, run_id, stream, release, size_bytes, adler32, event_count, created_at)
   select format('/prod/R%s/run%s/f%s', n / 10000, n / 2, n), 'RUN_FILE', 1, n / 2 + 1, 'S' || n % 20, 'R' || n / 10000, 100, '00000001',
     n % 500, timestamptz '2020-01-01 00:00Z' + n * interval '15 minutes'
   from generate_series(0, ${size.runFiles - 1}) n`,
  `insert into files (lfn, kind, site_id, stream, release, size_bytes, adler32, event_count, created_at, confirmed_copies, missing_copies)
   select format('/store/R%s/ds%s/f%s', lpad((n / 10000)::text, 2, '0'), n / ${filesPerDataset}, n), 'MERGED_FILE',
     case when n % 100 = 99 then 2 else 1 end, 'S' || n / ${filesPerDataset} % 20, 'R' || n / 10000, 1000 + n, '00000001', n % 5000,
     timestamptz '2020-01-01 00:00Z' + n * interval '15 minutes', case when n % 50 = 49 then 0 else 1 end,
     (n % 50 = 49)::int
   from generate_series(0, ${size.mergedFiles - 1}) n`,
  `insert into file_runs (file_id, run_id, event_count)
   select id, 1 + (row_number() over (order by id) - 1) / 2, event_count from files where kind = 'MERGED_FILE'`,
  `insert into file_parents (file_id, parent_id) select id, id - ${size.mergedFiles / 2} from files
   where kind = 'MERGED_FILE' and id > ${size.runFiles + size.mergedFiles / 2}`,
  `insert into merges (output_file_id) select id from files where kind = 'MERGED_FILE'`,
  `insert into merge_inputs (input_file_id, merge_id) select id, id from files where kind = 'RUN_FILE'`,
  `insert into datasets (name, kind, status, owner, stream, release, file_count, confirmed_count, size_bytes,
     event_count, created_at, closed_at, bad_mark_count, run_count, first_run, last_run, backup_waived, waiver_reason)
   select format('%s-R%s-%s', case when n % 4 = 0 then 'Inclppbar' else 'AllEvents' end, lpad((n * ${filesPerDataset} / 10000)::text, 2, '0'), n),
     (array['PR', 'SP', 'SKIM', 'USER'])[1 + n % 4], s, 'user' || n % 40, 'S' || n % 20, 'R' || n * ${filesPerDataset} / 10000,
     ${filesPerDataset}, ${filesPerDataset}, 1000 + n, n, t, case when s = 'CLOSED' then t end, (n % 50 = 1)::int, 15, 1, 2,
     n % 200 = 0, case when n % 200 = 0 then 'small' end
   from (select n, case when n % 20 = 5 then 'OPEN' when n % 20 = 7 then 'BACKED_UP' else 'CLOSED' end as s,
           timestamptz '2020-01-01 00:00Z' + n * interval '8 hours' as t
         from generate_series(0, ${size.datasets - 1}) n) d`,
  `insert into dataset_files (dataset_id, file_id, lfn)
   select 1 + (id - ${size.runFiles} - 1) / ${filesPerDataset}, id, lfn from files where kind = 'MERGED_FILE'`,
  `insert into datasets (name, kind, status, owner, file_count, confirmed_count, closed_at)
   values ('Everything', 'SKIM', 'CLOSED', 'user1', ${size.mergedFiles / 2}, ${size.mergedFiles / 2}, now())`,
  `insert into dataset_files (dataset_id, file_id, lfn)
   select ${size.datasets + 1}, id, lfn from files where kind = 'MERGED_FILE' and id % 2 = 1`,
  `insert into dataset_runs (dataset_id, source, number, run_id, file_count, event_count, size_bytes)
   select df.dataset_id, r.source, r.number, r.id, count(*), sum(fr.event_count), 1000
   from dataset_files df join file_runs fr on fr.file_id = df.file_id join runs r on r.id = fr.run_id group by df.dataset_id, r.id`,
  `insert into backup_records (file_id, store_id, status, requested_at, updated_at, attempt, answered_attempt, worker, lease_until,
     store_key, stored_size_bytes, stored_adler32, confirmed_at, evidence, last_error, last_error_code)
   select id, 1, s, created_at, created_at + interval '1 hour', 1, 1, 'w', now(), lfn, size_bytes, adler32, created_at,
     '{"asked":"a","answer":"b","askedAt":"c"}', case when s = 'FAILED' then 'full' end, case when s = 'FAILED' then 'NO_SPACE' end
   from (select *, case when confirmed_copies = 1 then 'CONFIRMED' when id % 4 = 0 then 'FAILED' else 'REQUESTED' end as s
         from files where kind = 'MERGED_FILE') f`,
  // Low numbers of transactions: readers stay below those that run.
  `insert into events (xid, kind, actor, occurred_at, file_id, run_id, to_state)
   select (1 + row_number() over (order by created_at, id) / 1000)::text::xid8, 'FILE_REGISTERED', 'producer', created_at, id, run_id, kind
   from files`,
  `insert into events (xid, kind, actor, occurred_at, file_id, backup_id, to_state)
   select (300 + id / 1000)::text::xid8, 'BACKUP_STATUS', 'worker', timestamptz '2024-01-01 00:00Z' + id * interval '1 minute', file_id, id, status
   from backup_records`,
  `insert into events (xid, kind, actor, occurred_at, dataset_id, to_state)
   select (430 + id / 100)::text::xid8, 'DATASET_STATUS', owner, timestamptz '2025-01-01 00:00Z' + id * interval '1 minute', id, status
   from datasets`,
  `insert into events (xid, kind, actor, occurred_at, run_id, to_state)
   select (480 + id / 1000)::text::xid8, 'RUN_STATUS', 'producer', timestamptz '2025-06-01 00:00Z' + id * interval '1 minute', id, 'AVAILABLE'
   from runs where production_status = 'AVAILABLE'`,
];

/** No trigger of ours speaks from here on: such a database is closed without a check. */
const takeTriggersAway = `
  do $$ declare it record; begin
    for it in select tablename as name from pg_tables where schemaname = 'public' loop
      execute format('alter table %I disable trigger user', it.name);
    end loop;
  end $$`;

export async function buildLargeWorld(database: TestDatabase): Promise<void> {
  await database.sql(takeTriggersAway);
  const client = await database.client();
  // Foreign keys sleep, too.
  await client.query('set session_replication_role = replica');
  for (const step of steps) await client.query(step);
  await client.query('vacuum analyze');
}
