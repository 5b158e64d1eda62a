import type { TestDatabase } from '../support/database.ts';

/** So many datasets that are closed and good, of one file each, all of one sort. */
export interface Batch {
  readonly prefix: string;
  readonly count: number;
  /** Events of the first; each of the others has none. */
  readonly events?: number;
  /** 1/pb of the first's run; the others have runs of 0. */
  readonly luminosity?: number;
}

let lastRun = 1_000_000;

/**
 * Loads thousands of closed datasets by a few statements. Their backups are waived, so that no copy
 * is needed; names are `prefix-00001` and so on. Each has a run of its own.
 */
export async function loadDatasets(database: TestDatabase, batch: Batch): Promise<string[]> {
  const { prefix, count, events = 0, luminosity = 0 } = batch;
  const first = lastRun + 1;
  lastRun += count;
  const name = `'${prefix}-' || lpad(n::text, 5, '0')`;
  const each = `generate_series(1, ${count}) n`;
  await database.sql(`
    insert into sites (name) values ('load') on conflict do nothing;
    insert into runs (source, number, luminosity)
      select 'SIMULATION', ${first - 1} + n, case when n = 1 then ${luminosity} else 0 end from ${each};
    insert into files (lfn, kind, site_id, size_bytes, adler32, event_count)
      select '/load/' || ${name}, 'MERGED_FILE', (select id from sites where name = 'load'), 1000, '00000001',
        case when n = 1 then ${events} else 0 end from ${each};
    insert into file_runs (file_id, run_id)
      select f.id, r.id from ${each} join files f on f.lfn = '/load/' || ${name}
      join runs r on r.source = 'SIMULATION' and r.number = ${first - 1} + n;
    insert into datasets (name, kind, owner, backup_waived, waiver_reason)
      select ${name}, 'PR', 'loader', true, 'made again at will' from ${each};
    insert into dataset_files (dataset_id, file_id)
      select d.id, f.id from ${each} join datasets d on d.name = ${name} join files f on f.lfn = '/load/' || ${name};
    update datasets set status = 'CLOSED' where name in (select ${name} from ${each});`);
  return Array.from({ length: count }, (_, at) => `${prefix}-${String(at + 1).padStart(5, '0')}`);
}
