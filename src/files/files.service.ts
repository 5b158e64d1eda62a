import { demand, type Viewer } from '../access/policy.ts';
import { visibleFile } from '../access/visibility.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { Db } from '../database/orm.ts';
import { rows, sql, type RawBuilder } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { refusalOf, runNotFound, type ItemRefusal } from '../runs/runs.service.ts';
import {
  checkDescription,
  registerAgain,
  type FileDescription,
  type KnownFile,
} from './files.rules.ts';
import { isLine } from '../text.ts';

export const mostFilesPerCall = 10_000;

export interface FileOutcome {
  readonly index: number;
  readonly lfn: string;
  readonly outcome: 'REGISTERED' | 'EXISTING' | 'REFUSED';
  readonly error?: ItemRefusal;
  readonly fileId?: number;
}

/** Registers up to 10,000 files: a handful of statements however many; one answer per item, good items are kept. */
export async function registerFiles(
  db: Db,
  viewer: Viewer,
  inputs: readonly FileDescription[],
  defaultSite: string,
  idempotencyKey?: string | null,
): Promise<FileOutcome[]> {
  demand(viewer, 'registerFiles');
  if (inputs.length > mostFilesPerCall) {
    throw badInput('files', inputs.length, `at most ${mostFilesPerCall} files in one call`);
  }
  const call = {
    principal: viewer.principal,
    operation: 'registerFiles',
    key: idempotencyKey,
    request: inputs,
  };
  return inTransaction(db, viewer, (tx) =>
    onceForKey(tx, call, () => registerInTransaction(tx, inputs, defaultSite, visibleFile(viewer))),
  );
}

/** The work of registerFiles, for use cases that register on their way. */
export async function registerInTransaction(
  tx: Db,
  inputs: readonly FileDescription[],
  defaultSite: string,
  /** Which files (alias f) may be named as parents. */
  mayBeParent: RawBuilder<boolean> = sql<boolean>`true`,
): Promise<FileOutcome[]> {
  const context = await lookUp(tx, inputs, defaultSite, mayBeParent);
  const seen = new Set<string>();
  const judged = inputs.map((input, index): FileOutcome => {
    try {
      checkDescription(input);
      if (seen.has(input.lfn)) {
        throw new SweepbookError('DUPLICATE', `${input.lfn} stands twice in this call`);
      }
      seen.add(input.lfn);
      const known = context.files.get(input.lfn);
      if (known) {
        registerAgain(known, input);
        return { index, lfn: input.lfn, outcome: 'EXISTING', fileId: known.id };
      }
      if (!context.sites.has(input.site ?? defaultSite)) {
        throw new SweepbookError('NOT_FOUND', `site ${input.site} is not known here`);
      }
      for (const run of input.runs ?? []) {
        if (!context.runs.has(`${run.source} ${run.number}`)) throw runNotFound(run);
      }
      const orphan = input.parents?.find((lfn) => !context.parents.has(lfn));
      if (orphan !== undefined) {
        throw new SweepbookError(
          'NOT_FOUND',
          `parent ${orphan} is not registered: register it first, in a call of its own`,
          { parent: orphan },
        );
      }
      return { index, lfn: input.lfn, outcome: 'REGISTERED' };
    } catch (error) {
      return { index, lfn: input.lfn, outcome: 'REFUSED', error: refusalOf(error) };
    }
  });
  return writeFiles(tx, inputs, judged, context, defaultSite);
}

interface LookUp {
  readonly files: Map<string, KnownFile & { id: number }>;
  readonly runs: Map<string, number>;
  readonly sites: Map<string, number>;
  readonly parents: Map<string, number>;
}

async function lookUp(
  tx: Db,
  inputs: readonly FileDescription[],
  site: string,
  mayBeParent: RawBuilder<boolean>,
): Promise<LookUp> {
  const files = await rows(
    tx,
    sql<KnownFile & { id: number }>`
    select f.id, f.lfn, f.kind, f.size_bytes as "sizeBytes", f.adler32, f.sha256, f.event_count as "eventCount",
      array(select p.lfn from file_parents fp join files p on p.id = fp.parent_id where fp.file_id = f.id) as parents
    from files f where f.lfn = any (${inputs.map((input) => input.lfn).filter(isLine)}::text[])`,
  );
  const keys = new Map(
    inputs
      .flatMap((input) => input.runs ?? [])
      .filter((run) => Math.abs(run.number) < 2 ** 31)
      .map((run) => [`${run.source} ${run.number}`, run]),
  );
  const runs =
    keys.size === 0
      ? []
      : await rows(
          tx,
          sql<{ id: number; source: string; number: number }>`
          select r.id, r.source, r.number from runs r
          where (r.source, r.number) in (
            select source, number from jsonb_to_recordset(${JSON.stringify([...keys.values()])}::jsonb)
              as k (source text, number integer))`,
        );
  const parents = [...new Set(inputs.flatMap((input) => input.parents ?? []))].filter(isLine);
  const known =
    parents.length === 0
      ? []
      : await rows(
          tx,
          sql<{
            id: number;
            lfn: string;
          }>`select f.id, f.lfn from files f where f.lfn = any (${parents}::text[]) and ${mayBeParent}`,
        );
  const told = [...new Set(inputs.map((input) => input.site ?? site))];
  const sites = await rows(
    tx,
    sql<{ id: number; name: string }>`select id, name from sites
      where name = any (${told.filter(isLine)}::text[])`,
  );
  return {
    files: new Map(files.map((file) => [file.lfn, file])),
    runs: new Map(runs.map((run) => [`${run.source} ${run.number}`, run.id])),
    sites: new Map(sites.map((row) => [row.name, row.id])),
    parents: new Map(known.map((file) => [file.lfn, file.id])),
  };
}

async function writeFiles(
  tx: Db,
  inputs: readonly FileDescription[],
  judged: FileOutcome[],
  context: LookUp,
  defaultSite: string,
): Promise<FileOutcome[]> {
  const fresh = inputs.filter((_, i) => judged[i]?.outcome === 'REGISTERED');
  const made = await insertFiles(tx, fresh, context, defaultSite);
  const ids = new Map(made.map((file) => [file.lfn, file.id]));
  const outcomes = judged.map((item): FileOutcome => {
    if (item.outcome !== 'REGISTERED') return item;
    const fileId = ids.get(item.lfn);
    if (fileId !== undefined) return { ...item, fileId };
    // Somebody else registered it between our look and our insert.
    return {
      index: item.index,
      lfn: item.lfn,
      outcome: 'REFUSED',
      error: {
        code: 'DUPLICATE',
        message: `${item.lfn} is being registered by another call: try again`,
      },
    };
  });
  await insertFileRuns(tx, fresh, ids, context);
  await insertParents(tx, fresh, ids, context);
  await insertReplicas(tx, inputs, outcomes, context, defaultSite);
  return outcomes;
}

async function insertFiles(
  tx: Db,
  fresh: readonly FileDescription[],
  context: LookUp,
  defaultSite: string,
): Promise<{ id: number; lfn: string }[]> {
  if (fresh.length === 0) return [];
  // Sorted, so that two calls with the same names wait for each other and do not deadlock.
  const sorted = fresh.toSorted((a, b) => (a.lfn < b.lfn ? -1 : 1));
  const column = <T>(value: (file: FileDescription) => T) => sorted.map(value);
  return rows(
    tx,
    sql<{ id: number; lfn: string }>`
    insert into files (lfn, kind, site_id, run_id, stream, release, size_bytes, adler32, sha256, event_count)
    select * from unnest(
      ${column((f) => f.lfn)}::text[], ${column((f) => f.kind)}::text[],
      ${column((f) => context.sites.get(f.site ?? defaultSite))}::integer[],
      ${column((f) => runIdOf(f, context))}::bigint[], ${column((f) => f.stream ?? null)}::text[],
      ${column((f) => f.release ?? null)}::text[], ${column((f) => f.sizeBytes)}::bigint[],
      ${column((f) => f.adler32.toLowerCase())}::text[], ${column((f) => f.sha256?.toLowerCase() ?? null)}::text[],
      ${column((f) => f.eventCount ?? null)}::bigint[])
    on conflict (lfn) do nothing returning id, lfn`,
  );
}

function runIdOf(file: FileDescription, context: LookUp): number | null {
  const run = file.kind === 'RUN_FILE' ? file.runs?.[0] : undefined;
  return run ? (context.runs.get(`${run.source} ${run.number}`) ?? null) : null;
}

async function insertFileRuns(
  tx: Db,
  fresh: readonly FileDescription[],
  ids: ReadonlyMap<string, number>,
  context: LookUp,
): Promise<void> {
  const pairs = fresh
    .filter((file) => file.kind === 'MERGED_FILE' && ids.has(file.lfn))
    .flatMap((file) =>
      (file.runs ?? []).map((run) => ({
        file: ids.get(file.lfn),
        run: context.runs.get(`${run.source} ${run.number}`),
        // Of its only run are all of its events.
        events: run.eventCount ?? (file.runs?.length === 1 ? (file.eventCount ?? null) : null),
      })),
    );
  if (pairs.length === 0) return;
  await rows(
    tx,
    sql`insert into file_runs (file_id, run_id, event_count)
      select * from unnest(${pairs.map((p) => p.file)}::bigint[], ${pairs.map((p) => p.run)}::bigint[],
        ${pairs.map((p) => p.events)}::bigint[])
      on conflict do nothing`,
  );
}

async function insertParents(
  tx: Db,
  fresh: readonly FileDescription[],
  ids: ReadonlyMap<string, number>,
  context: LookUp,
): Promise<void> {
  const pairs = fresh.flatMap((file) => {
    const child = ids.get(file.lfn);
    const parents = child === undefined ? [] : [...new Set(file.parents)];
    return parents.map((parent) => ({ child, parent: context.parents.get(parent) }));
  });
  if (pairs.length === 0) return;
  await rows(
    tx,
    sql`insert into file_parents (file_id, parent_id)
      select * from unnest(${pairs.map((p) => p.child)}::bigint[], ${pairs.map((p) => p.parent)}::bigint[])`,
  );
}

async function insertReplicas(
  tx: Db,
  inputs: readonly FileDescription[],
  outcomes: readonly FileOutcome[],
  context: LookUp,
  defaultSite: string,
): Promise<void> {
  const told = inputs.flatMap((input, i) => {
    const fileId = outcomes[i]?.fileId;
    const siteId = context.sites.get(input.site ?? defaultSite);
    return input.path != null && fileId !== undefined && siteId !== undefined
      ? [{ fileId, siteId, path: input.path, volume: input.volume ?? 'default' }]
      : [];
  });
  if (told.length === 0) return;
  const table = sql`unnest(${told.map((r) => r.fileId)}::bigint[], ${told.map((r) => r.siteId)}::integer[],
    ${told.map((r) => r.volume)}::text[], ${told.map((r) => r.path)}::text[]) as t (file_id, site_id, volume, path)`;
  await rows(
    tx,
    sql`insert into volumes (site_id, name) select distinct t.site_id, t.volume from ${table}
      order by 1, 2 on conflict do nothing`,
  );
  await rows(
    tx,
    // What was lost, and a copy of what is lost, is read before it counts.
    sql`insert into replicas (file_id, volume_id, path, status)
      select t.file_id, v.id, t.path, case when exists (
        select from incident_items i where i.file_id = t.file_id and i.is_lost) then 'STAGING' else 'AVAILABLE' end
      from ${table} join volumes v on v.site_id = t.site_id and v.name = t.volume order by t.file_id, v.id, t.path
      on conflict (file_id, volume_id, path) do update set status = 'STAGING' where replicas.status = 'LOST'`,
  );
}

/** The files of these names; NOT_FOUND with the first 20 of those that the viewer does not see, or that are not there. */
export async function filesByLfn(
  tx: Db,
  viewer: Viewer,
  lfns: readonly string[],
): Promise<{ id: number; lfn: string; kind: string }[]> {
  const wanted = [...new Set(lfns)];
  const found = await rows(
    tx,
    sql<{ id: number; lfn: string; kind: string }>`
    select f.id, f.lfn, f.kind from files f
    where f.lfn = any (${wanted.map((lfn) => lfn.replaceAll('\0', ''))}::text[]) and ${visibleFile(viewer)}`,
  );
  if (found.length < wanted.length) {
    const names = new Set(found.map((file) => file.lfn));
    const missing = wanted.filter((lfn) => !names.has(lfn));
    throw new SweepbookError(
      'NOT_FOUND',
      `${missing.length} of ${wanted.length} files are not registered, ${missing[0]} for one: register them first`,
      { count: missing.length, first: missing.slice(0, 20) },
    );
  }
  return found;
}
