import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import type { RunTimes, StreamFiles } from './run-production.rules.ts';

/** A stream that a run is to yield, or has files of. */
export interface StreamRow extends StreamFiles {
  readonly runFileEventCount: number;
  readonly mergedEventCount: number;
  readonly failedBackupCount: number;
  readonly lastError: string | null;
}

export interface RunProductionRow extends RunTimes {
  readonly runId: number;
  readonly streams: readonly StreamRow[];
}

type Joined = RunTimes & StreamRow & { readonly runId: number; readonly isStream: boolean };

/** How far production of these runs is, stream by stream: one statement, however many they are. */
export async function productionOf(db: Db, runIds: readonly number[]): Promise<RunProductionRow[]> {
  const found = await rows(
    db,
    sql<Joined>`
    with written as (
      select f.run_id, f.stream, count(*) as n, sum(f.event_count) as events, count(mi.input_file_id) as merged,
        min(f.created_at) filter (where mi.input_file_id is null) as waiting_since
      from files f left join merge_inputs mi on mi.input_file_id = f.id
      where f.run_id = any (${runIds}::bigint[]) group by f.run_id, f.stream
    ), merged as (
      select fr.run_id, m.stream, count(*) as n, sum(fr.event_count) as events,
        count(*) filter (where m.missing_copies = 0) as safe,
        -- A merged file may be registered long before its merge is told; it waits since both are known.
        min(greatest(m.created_at, g.created_at)) filter (where m.missing_copies > 0) as waiting_since,
        sum(b.failed) as failed, max(b.last_error) as last_error
      from file_runs fr join files m on m.id = fr.file_id
      left join merges g on g.output_file_id = m.id
      left join lateral (
        select count(*) filter (where b.status = 'FAILED') as failed,
          (array_agg(b.last_error order by b.updated_at desc) filter (where b.last_error is not null))[1] as last_error
        from backup_records b where b.file_id = m.id) b on m.missing_copies > 0
      where fr.run_id = any (${runIds}::bigint[]) group by fr.run_id, m.stream
    ), streams as (
      select r.id as run_id, s.stream, true as is_expected
      from runs r cross join lateral unnest(r.expected_streams) s (stream) where r.id = any (${runIds}::bigint[])
      union all select run_id, stream, false from written
      union all select run_id, stream, false from merged
    ), parts as (
      select run_id, stream, bool_or(is_expected) as is_expected from streams group by run_id, stream)
    select r.id as "runId", r.started_at as "startedAt", r.ended_at as "endedAt", r.created_at as "createdAt",
      p.run_id is not null as "isStream", p.stream, coalesce(p.is_expected, false) as "isExpected",
      coalesce(w.n, 0) as "runFileCount", coalesce(w.events, 0) as "runFileEventCount",
      coalesce(w.merged, 0) as "mergedRunFileCount", w.waiting_since as "oldestUnmergedAt",
      coalesce(m.n, 0) as "mergedFileCount", coalesce(m.events, 0) as "mergedEventCount",
      coalesce(m.safe, 0) as "backedUpFileCount", m.waiting_since as "oldestUnsafeAt",
      coalesce(m.failed, 0) as "failedBackupCount", m.last_error as "lastError"
    from runs r
    left join parts p on p.run_id = r.id
    left join written w on w.run_id = p.run_id and w.stream is not distinct from p.stream
    left join merged m on m.run_id = p.run_id and m.stream is not distinct from p.stream
    where r.id = any (${runIds}::bigint[])
    order by r.id, p.stream`,
  );
  return [...Map.groupBy(found, (row) => row.runId)].flatMap(([runId, streams]) =>
    streams[0]
      ? [
          {
            runId,
            startedAt: streams[0].startedAt,
            endedAt: streams[0].endedAt,
            createdAt: streams[0].createdAt,
            streams: streams.filter((row) => row.isStream),
          },
        ]
      : [],
  );
}
