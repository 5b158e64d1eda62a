import { backupSteps } from '../../src/backups/backups.rules.ts';
import { datasetSteps } from '../../src/datasets/datasets.rules.ts';
import type { Step } from '../../src/events/events.rules.ts';
import { importSteps } from '../../src/imports/imports.rules.ts';
import { incidentSteps } from '../../src/incidents/incidents.rules.ts';
import { poolCopySteps } from '../../src/pools/pools.rules.ts';
import { suspicionSteps } from '../../src/suspicions/suspicions.rules.ts';
import { publicationSteps } from '../../src/publications/publications.rules.ts';
import { runSteps } from '../../src/runs/runs.rules.ts';
import type { Check } from './invariants-of-contents.ts';

interface Life {
  readonly noun: string;
  readonly table: string;
  readonly status: string;
  /** Column of events, or what stands for one. */
  readonly id: string;
  readonly kind: string;
  readonly steps: readonly Step<string>[];
}

const lives: readonly Life[] = [
  {
    noun: 'dataset',
    table: 'datasets',
    status: 'status',
    id: 'dataset_id',
    kind: 'DATASET_STATUS',
    steps: datasetSteps,
  },
  {
    noun: 'backup',
    table: 'backup_records',
    status: 'status',
    id: 'backup_id',
    kind: 'BACKUP_STATUS',
    steps: backupSteps,
  },
  {
    noun: 'run',
    table: 'runs',
    status: 'production_status',
    id: 'run_id',
    kind: 'RUN_STATUS',
    steps: runSteps,
  },
  {
    noun: 'incident',
    table: 'incidents',
    status: 'status',
    id: 'incident_id',
    kind: 'INCIDENT_STATUS',
    steps: incidentSteps,
  },
  {
    noun: 'suspicion',
    table: 'suspicions',
    status: 'state',
    id: `(facts ->> 'suspicionId')::bigint`,
    kind: 'COPY_SUSPICION',
    steps: suspicionSteps,
  },
  {
    noun: 'import',
    table: 'imports',
    status: 'status',
    id: `(facts ->> 'importId')::bigint`,
    kind: 'IMPORT_STATUS',
    steps: importSteps,
  },
  {
    noun: 'pool copy',
    table: 'pool_copies',
    status: 'status',
    id: `(facts ->> 'poolCopyId')::bigint`,
    kind: 'POOL_COPY_STATUS',
    steps: poolCopySteps,
  },
  {
    noun: 'publication',
    table: 'publications',
    status: 'status',
    id: `(facts ->> 'publicationId')::bigint`,
    kind: 'PUBLICATION_STATUS',
    steps: publicationSteps,
  },
];

/** I4: from the creation on each event starts where the one before ended, up to what is now. */
function chainChecks({ noun, table, status, id, kind, steps }: Life): Check[] {
  const chain = `
    select ${id} as of, id, coalesce(from_state, '') as from_state, to_state,
      lag(to_state, 1, '') over w as before, lead(id) over w is null as is_last
    from events where kind = '${kind}' window w as (partition by ${id} order by xid, id)`;
  return [
    {
      invariant: 'I4',
      sql: `
        select format('${noun} %s: event %s goes from %s to %s, and it was %s', c.of, c.id,
          coalesce(nullif(c.from_state, ''), 'nothing'), c.to_state, coalesce(nullif(c.before, ''), 'nothing'))
        from (${chain}) c where c.from_state <> c.before`,
    },
    {
      invariant: 'I4',
      sql: `
        select format('${noun} %s: event %s from %s to %s is not a step of its life', ${id}, e.id,
          e.from_state, e.to_state)
        from events e where e.kind = '${kind}' and not (
          coalesce(e.from_state, '') || '>' || e.to_state = any ($1::text[]))`,
      values: [steps.map((step) => `${step.from}>${step.to}`)],
    },
    {
      invariant: 'I4',
      sql: `
        select format('${noun} %s is %s, and its last event says %s', t.id, t.${status},
          coalesce(c.to_state, 'nothing'))
        from ${table} t left join (${chain}) c on c.of = t.id and c.is_last
        where c.to_state is distinct from t.${status}
        union all
        select format('${noun} %s stands in the log and nowhere else', c.of)
        from (${chain}) c left join ${table} t on t.id = c.of where c.is_last and t.id is null`,
    },
    {
      invariant: 'I4',
      sql: `
        select format('${noun} %s was created %s times', ${id}, count(*))
        from events where kind = '${kind}' and from_state is null group by ${id} having count(*) > 1`,
    },
    {
      // A row is changed by one transaction after the other, so its lines are numbered in that order.
      invariant: 'I4',
      sql: `
        select format('${noun} %s: event %s is read before event %s, which was written earlier', of, earlier, id)
        from (
          select ${id} as of, id, lag(id) over (partition by ${id} order by xid, id) as earlier
          from events where kind like split_part('${kind}', '_', 1) || '\\_%' and ${id} is not null) o
        where earlier > id`,
    },
  ];
}

/** Rows and their events, pair by pair: as many of the one as of the other. */
function pairCheck(what: string, rowsSql: string, eventsSql: string): Check {
  return {
    invariant: 'I4',
    sql: `
      with rows (key) as (${rowsSql}), lines (key) as (${eventsSql}), counted as (
        select key, sum(row) as rows, sum(line) as lines from (
          select key, 1 as row, 0 as line from rows union all select key, 0, 1 from lines) both_sides
        group by key)
      select format('${what} %s: %s in the tables, %s in the log', key, rows, lines)
      from counted where rows <> lines`,
  };
}

/** I2, I4, I5: what the log says, beside the rows. */
export const eventChecks: readonly Check[] = [
  ...lives.flatMap(chainChecks),
  pairCheck(
    'registered file',
    `select id::text from files`,
    `select file_id::text from events where kind = 'FILE_REGISTERED'`,
  ),
  pairCheck(
    'merge into file, as merge',
    `select output_file_id || ', ' || id from merges`,
    `select file_id || ', ' || (facts ->> 'mergeId') from events where kind = 'MERGE_RECORDED'`,
  ),
  pairCheck(
    'bad mark on dataset, with reason',
    `select dataset_id || ', ' || reason from bad_marks`,
    `select dataset_id || ', ' || coalesce(reason, '') from events where kind = 'DATASET_MARKED_BAD'`,
  ),
  pairCheck(
    'bad mark taken off dataset, with reason',
    `select dataset_id || ', ' || cleared_reason from bad_marks where cleared_at is not null`,
    `select dataset_id || ', ' || coalesce(reason, '') from events where kind = 'DATASET_CLEARED'`,
  ),
  pairCheck(
    'sweep of dataset',
    `select dataset_id::text from sweeps`,
    `select dataset_id::text from events where kind = 'DATASET_SEALED'`,
  ),
  pairCheck(
    'sweep called off of dataset',
    `select dataset_id::text from sweeps where outcome = 'CANCELLED'`,
    `select dataset_id::text from events where kind = 'DATASET_UNSEALED'`,
  ),
  {
    invariant: 'I4',
    sql: `
      select format('run %s %s: the verdict is %s, and its last event says %s', r.source, r.number,
        coalesce(r.verdict, 'none'), coalesce(e.to_state, 'none'))
      from runs r left join (
        select distinct on (run_id) run_id, to_state, reason from events
        where kind = 'RUN_VERDICT' order by run_id, xid desc, id desc) e on e.run_id = r.id
      where (r.verdict, nullif(btrim(r.verdict_comment), '')) is distinct from (e.to_state, nullif(btrim(e.reason), ''))
      union all
      select format('run %s: verdict event %s goes from %s, and it was %s', run_id, id,
        coalesce(from_state, 'none'), coalesce(before, 'none'))
      from (
        select run_id, id, from_state, lag(to_state) over (partition by run_id order by xid, id) as before
        from events where kind = 'RUN_VERDICT') c
      where from_state is distinct from before`,
  },
  {
    invariant: 'I2',
    sql: `
      select format('dataset %s: %s (event %s) after it was CLOSED', e.dataset_id, e.kind, e.id)
      from (
        select *, bool_or(kind = 'DATASET_STATUS' and to_state = 'CLOSED') over (
          partition by dataset_id order by xid, id rows between unbounded preceding and 1 preceding) as was_closed
        from events where dataset_id is not null) e
      where e.was_closed and e.kind not in ('DATASET_MARKED_BAD', 'DATASET_CLEARED', 'DATASET_UNSHARED')`,
  },
  {
    invariant: 'I2',
    sql: `
      with told as (
        select dataset_id, sum((facts ->> 'fileCount')::bigint
          * case kind when 'DATASET_FILES_ADDED' then 1 else -1 end) as n
        from events where kind in ('DATASET_FILES_ADDED', 'DATASET_FILES_REMOVED') group by dataset_id),
      listed as (select dataset_id, count(*) as n from dataset_files group by dataset_id)
      select format('dataset %s lists %s files, and its events tell of %s', d.name, coalesce(l.n, 0), coalesce(t.n, 0))
      from datasets d left join told t on t.dataset_id = d.id left join listed l on l.dataset_id = d.id
      where coalesce(l.n, 0) <> coalesce(t.n, 0)`,
  },
  {
    invariant: 'I5',
    sql: `
      select format('backup %s: %s by attempt %s (event %s) after attempt %s', backup_id, to_state, attempt, id, latest)
      from (
        select backup_id, id, to_state, (facts ->> 'attempt')::integer as attempt,
          max((facts ->> 'attempt')::integer) over (partition by backup_id order by xid, id
            rows between unbounded preceding and 1 preceding) as latest
        from events where kind = 'BACKUP_STATUS') e
      where attempt < latest
      union all
      select format('backup %s: attempt %s was claimed twice', backup_id, facts ->> 'attempt')
      from events where kind = 'BACKUP_STATUS' and to_state = 'COPYING'
      group by backup_id, facts ->> 'attempt' having count(*) > 1
      union all
      select format('backup %s is at attempt %s, and its events tell of attempt %s', b.id, b.attempt, e.latest)
      from backup_records b join (
        select backup_id, max((facts ->> 'attempt')::integer) as latest from events
        where kind = 'BACKUP_STATUS' group by backup_id) e on e.backup_id = b.id
      where b.attempt < e.latest`,
  },
];
