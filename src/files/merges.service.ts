import { demand, type Viewer } from '../access/policy.ts';
import { visibleFile } from '../access/visibility.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { merge, type FileDescription, type FileKind, type MergeInput } from './files.rules.ts';
import { filesByLfn, mostFilesPerCall, registerInTransaction } from './files.service.ts';

export interface RecordMerge {
  /** The merged file, registered on the way … */
  readonly output?: FileDescription | null | undefined;
  /** … or the name of one that is registered. */
  readonly outputLfn?: string | null | undefined;
  readonly inputs: readonly string[];
}

/** Records which run files went into which merged file; the same merge again changes nothing. */
export async function recordMerge(
  db: Db,
  viewer: Viewer,
  input: RecordMerge,
  defaultSite: string,
  idempotencyKey?: string | null,
): Promise<{ fileId: number; changed: boolean }> {
  demand(viewer, 'recordMerge');
  if ((input.output == null) === (input.outputLfn == null)) {
    throw badInput(
      'output',
      null,
      'give either output (a new file) or outputLfn (a registered one)',
    );
  }
  if (input.inputs.length > mostFilesPerCall) {
    throw badInput(
      'inputs',
      input.inputs.length,
      `at most ${mostFilesPerCall} run files in one merge`,
    );
  }
  const call = {
    principal: viewer.principal,
    operation: 'recordMerge',
    key: idempotencyKey,
    request: input,
  };
  return inTransaction(db, viewer, (tx) =>
    onceForKey(tx, call, async () => {
      const inputs = await lockInputs(tx, viewer, input.inputs);
      const outputLfn = input.output?.lfn ?? input.outputLfn ?? '';
      const earlier = await earlierMerge(tx, outputLfn);
      if (earlier && sameInputs(earlier.inputs, input.inputs)) {
        return { fileId: earlier.fileId, changed: false };
      }
      if (input.output) await registerOutput(tx, viewer, input.output, inputs, defaultSite);
      const output = await outputOf(tx, viewer, outputLfn);
      if (earlier) {
        throw new SweepbookError(
          'ALREADY_MERGED',
          `${outputLfn} was made of ${earlier.inputs.length} other run files: a merged file has one merge`,
          { lfn: outputLfn },
        );
      }
      merge(output, inputs);
      await writeMerge(tx, output.id, inputs);
      return { fileId: output.id, changed: true };
    }),
  );
}

interface LockedInput extends MergeInput {
  readonly id: number;
  readonly runNumber: number | null;
  readonly runSource: 'DATA' | 'SIMULATION' | null;
  readonly stream: string | null;
}

async function lockInputs(tx: Db, viewer: Viewer, lfns: readonly string[]): Promise<LockedInput[]> {
  const unique = [...new Set(lfns)];
  await filesByLfn(tx, viewer, unique);
  await rows(
    tx,
    sql`select from files where lfn = any (${unique}::text[]) order by id for no key update`,
  );
  // Read with the locks held: another merge may have taken one of them while we waited.
  return rows(
    tx,
    sql<LockedInput>`
    select f.id, f.lfn, f.kind, f.event_count as "eventCount", f.stream, o.lfn as "mergedInto",
      r.number as "runNumber", r.source as "runSource"
    from unnest(${unique}::text[]) with ordinality as t (lfn, place)
    join files f on f.lfn = t.lfn
    left join merge_inputs mi on mi.input_file_id = f.id
    left join merges m on m.id = mi.merge_id
    left join files o on o.id = m.output_file_id
    left join runs r on r.id = f.run_id order by t.place`,
  );
}

async function earlierMerge(
  tx: Db,
  lfn: string,
): Promise<{ fileId: number; inputs: string[] } | undefined> {
  return firstRow(
    tx,
    sql<{ fileId: number; inputs: string[] }>`
    select o.id as "fileId", array_agg(i.lfn) as inputs
    from files o join merges m on m.output_file_id = o.id
    join merge_inputs mi on mi.merge_id = m.id join files i on i.id = mi.input_file_id
    where o.lfn = ${lfn} group by o.id`,
  );
}

function sameInputs(known: readonly string[], told: readonly string[]): boolean {
  const names = new Set(told);
  return names.size === known.length && known.every((lfn) => names.has(lfn));
}

/** The runs of a merged file are those of its inputs; told ones must be the same. */
async function registerOutput(
  tx: Db,
  viewer: Viewer,
  output: FileDescription,
  inputs: readonly LockedInput[],
  defaultSite: string,
): Promise<void> {
  const runs = new Map<
    string,
    { number: number; source: 'DATA' | 'SIMULATION'; eventCount: number }
  >();
  for (const { runNumber, runSource, eventCount } of inputs) {
    if (runNumber === null || runSource === null) continue;
    const run = runs.get(`${runSource} ${runNumber}`);
    runs.set(`${runSource} ${runNumber}`, {
      number: runNumber,
      source: runSource,
      eventCount: (run?.eventCount ?? 0) + (eventCount ?? 0),
    });
  }
  const told = output.runs?.map((run) => `${run.source} ${run.number}`);
  if (told && (told.length !== runs.size || told.some((key) => !runs.has(key)))) {
    throw badInput(
      'output.runs',
      told,
      'leave it out: the runs of a merged file are those of its inputs',
    );
  }
  const streams = [...new Set(inputs.map((input) => input.stream))];
  const stream = output.stream ?? (streams.length === 1 ? streams[0] : null);
  const [made] = await registerInTransaction(
    tx,
    [{ ...output, stream, runs: [...runs.values()] }],
    defaultSite,
    visibleFile(viewer),
  );
  if (made?.error)
    throw new SweepbookError(made.error.code, made.error.message, { lfn: output.lfn });
}

async function outputOf(
  tx: Db,
  viewer: Viewer,
  lfn: string,
): Promise<{ id: number; lfn: string; kind: FileKind; eventCount: number | null }> {
  await filesByLfn(tx, viewer, [lfn]);
  const row = await firstRow(
    tx,
    sql<{ id: number; lfn: string; kind: FileKind; eventCount: number | null }>`
    select id, lfn, kind, event_count as "eventCount" from files where lfn = ${lfn} for no key update`,
  );
  if (!row) throw new SweepbookError('NOT_FOUND', `${lfn} is not registered`);
  return row;
}

async function writeMerge(tx: Db, outputId: number, inputs: readonly LockedInput[]): Promise<void> {
  const ids = inputs.map((input) => input.id);
  // What was told of the runs stays (the database compares it at the commit); what was not is known now.
  await rows(
    tx,
    sql`insert into file_runs (file_id, run_id, event_count)
      select ${outputId}::bigint, run_id, sum(event_count)::bigint from files
      where id = any (${ids}::bigint[]) and run_id is not null group by run_id
      on conflict (file_id, run_id) do update set event_count = excluded.event_count
      where file_runs.event_count is null`,
  );
  const made = await firstRow(
    tx,
    sql<{ id: number }>`insert into merges (output_file_id) values (${outputId}) returning id`,
  );
  await rows(
    tx,
    sql`insert into merge_inputs (input_file_id, merge_id)
      select unnest(${ids}::bigint[]), ${made?.id ?? 0}::bigint`,
  );
}
