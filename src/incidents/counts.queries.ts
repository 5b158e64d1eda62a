import { may, type Viewer } from '../access/policy.ts';
import { privateFiles } from '../access/visibility.ts';
import { sql, type RawBuilder } from '../database/sql.ts';

/** Whether the viewer sees whole incidents, or only what is about his own datasets. */
export const seesAll = (viewer: Viewer) => may(viewer, 'readIncidents');

/** Items x of incident i that are in datasets of this owner, each once. */
export const ownItems = (viewer: Viewer) => sql`
  (select distinct on (x.ordinal) x.* from incident_datasets k
    join datasets d on d.id = k.dataset_id and d.owner = ${viewer.principal}
    join dataset_files df on df.dataset_id = k.dataset_id
    join incident_items x on x.file_id = df.file_id and x.incident_id = k.incident_id
    where k.incident_id = i.id)`;

const countsOf = (items: RawBuilder<unknown>) => sql`
  (select count(*) as item_count, count(*) filter (where x.finding = 'SAFE') as safe_count,
    count(*) filter (where x.finding = 'RECOVERABLE') as recoverable_count,
    count(*) filter (where x.finding = 'LOST') as lost_count,
    count(*) filter (where x.status = 'HIT' and (x.finding <> 'SAFE' or x.backup_id is not null)) as open_count,
    count(*) filter (where x.is_lost) as still_lost_count,
    count(*) filter (where x.status = 'RESTORED') as restored_count from ${items} x)`;

const countNames = [
  'item_count',
  'safe_count',
  'recoverable_count',
  'lost_count',
  'open_count',
  'still_lost_count',
  'restored_count',
] as const;

/** The counts that stand with the incident, less what is hidden from the viewer: few files, whatever was hit. */
function countsOfAll(viewer: Viewer): RawBuilder<unknown> {
  const hidden = privateFiles(viewer);
  const left = countNames.map((name) =>
    hidden
      ? sql`i.${sql.ref(name)} - h.${sql.ref(name)} as ${sql.ref(name)}`
      : sql`i.${sql.ref(name)}`,
  );
  const less = hidden
    ? sql`from ${countsOf(sql`(select x.* from incident_items x join ${hidden} p on p.id = x.file_id
        where x.incident_id = i.id)`)} h`
    : sql``;
  return sql`(select ${sql.join(left)} ${less})`;
}

/** The counts of incident i for a viewer, as one row. */
export const seenCounts = (viewer: Viewer): RawBuilder<unknown> =>
  seesAll(viewer) ? countsOfAll(viewer) : countsOf(ownItems(viewer));
