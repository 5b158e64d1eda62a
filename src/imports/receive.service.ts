import { demand, type Viewer } from '../access/policy.ts';
import { getMassStore } from '../backups/mass-stores.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { checkDatasetName } from '../datasets/datasets.rules.ts';
import { badInput, SweepbookError, type ErrorCode } from '../errors.ts';
import { acceptInTransaction, takeOverAddresses, type CheckedManifest } from './accept.service.ts';
import {
  compareFiles,
  compareRuns,
  findSameName,
  mostConflictsTold,
  type Conflict,
  type FileFindings,
  type RunFindings,
  type SameName,
} from './compare.queries.ts';
import type { ManifestFile, ManifestHead, ManifestRun } from './manifest.ts';
import { readManifest } from './manifest-reader.ts';
import { verifySignature } from '../storage/ed25519.ts';
import {
  readableAt,
  sourceOf,
  type ImportSettings,
  type ImportSource,
} from '../storage/import-sources.ts';

export interface Receiving {
  readonly db: Db;
  readonly jobs: JobQueue;
  /** Name of this site. */
  readonly site: string;
  readonly imports: ImportSettings | undefined;
}

export interface ReceiveOptions {
  readonly dryRun: boolean;
  /** The dataset's name here; that at its site if it is not given. */
  readonly name?: string | undefined;
  /** Where its files are backed up; the default store if it is not given. */
  readonly store?: string | undefined;
}

/** What a manifest means for this site. */
export interface Received {
  /** NEW: an import has begun. RESUMED: it was under way. IDENTICAL: the dataset is here. CONFLICT: dry run only. */
  readonly outcome: 'NEW' | 'RESUMED' | 'IDENTICAL' | 'CONFLICT';
  readonly changed: boolean;
  readonly dryRun: boolean;
  /** Its number; null = none was made. */
  readonly import: number | null;
  readonly dataset: string;
  readonly site: string;
  readonly signedBy: string | null;
  readonly files: FileFindings;
  readonly runs: RunFindings;
  readonly conflictCount: number;
  readonly conflicts: readonly Conflict[];
}

/** Reads a manifest to its end before anything is kept of it. */
async function checkManifest({ site, imports }: Receiving, path: string): Promise<CheckedManifest> {
  let head: ManifestHead | undefined;
  let source: ImportSource | undefined;
  for await (const line of readManifest(path)) {
    if (line.kind === 'head') {
      ({ head } = line);
      if (head.site === site) {
        throw badInput(
          'site',
          site,
          'the manifest is of this very site: there is nothing to import',
        );
      }
      // Before the rest is read: a stranger costs one line.
      source = sourceOf(imports, head.site);
    }
    if (line.kind !== 'end' || !head || !source) continue;
    const { sha256, signature } = line.end;
    const signedBy =
      source.keys.length === 0 ? null : verifySignature(sha256, signature, source.keys, head.site);
    return { path, head, end: line.end, source, signedBy };
  }
  throw badInput('manifest', path, 'it is empty');
}

/**
 * Takes a manifest that lies on this disk: checks it line by line, compares it with what is known here, and begins the
 * import. Sent again it is no second import: what FAILED is tried again. A dry run says the same and leaves nothing.
 * Refusals carry the line: BAD_USER_INPUT, NOT_MERGED, CHECKSUM_MISMATCH, SOURCE_NOT_ALLOWED (the site, an
 * address, the signature), DUPLICATE (what contradicts).
 */
export async function receiveManifest(
  means: Receiving,
  viewer: Viewer,
  path: string,
  options: ReceiveOptions,
): Promise<Received> {
  demand(viewer, 'importDatasets');
  const manifest = await checkManifest(means, path);
  const name = options.name ?? manifest.head.dataset.name;
  checkDatasetName(name);
  const store = await getMassStore(means.db, options.store);
  await means.jobs.prepare(store.id);
  const id = await stage(means.db, viewer, manifest);
  let isKept = false;
  try {
    const received = await inTransaction(means.db, viewer, async (tx) => {
      // Two that bring the same dataset at once: the second one sees the first.
      await rows(
        tx,
        sql`select pg_advisory_xact_lock(hashtextextended('import of ' || ${name}, 0))`,
      );
      await rows(tx, sql`select set_config('work_mem', '128MB', true)`);
      const plan = await planOf(tx, id, name, manifest);
      const { same, ...told } = plan;
      const answer = { ...told, dryRun: options.dryRun, changed: false, import: null };
      if (options.dryRun) return { ...answer, import: same.importId ?? same.enteredBy };
      if (plan.conflictCount > 0) throw refusalOf(plan);
      if (plan.outcome === 'IDENTICAL') return { ...answer, import: same.enteredBy };
      if (plan.outcome === 'RESUMED' && same.importId !== null) {
        const changed = await takeOverAddresses(tx, same.importId, id);
        return { ...answer, import: same.importId, changed };
      }
      await acceptInTransaction(tx, means.jobs, { id, name, storeId: store.id, manifest });
      return { ...answer, import: id, changed: true };
    });
    isKept = received.outcome === 'NEW' && received.import === id;
    return received;
  } finally {
    if (!isKept) await discard(means.db, id).catch(() => undefined);
  }
}

interface Plan extends Pick<
  Received,
  'outcome' | 'dataset' | 'site' | 'signedBy' | 'files' | 'runs' | 'conflictCount' | 'conflicts'
> {
  readonly same: SameName;
}

async function planOf(tx: Db, id: number, name: string, manifest: CheckedManifest): Promise<Plan> {
  const { head, signedBy } = manifest;
  const same = await findSameName(tx, id, name);
  const files = await compareFiles(tx, id);
  const runs = await compareRuns(tx, id);
  const clash = clashOf(same, name, head);
  const conflicts = [...(clash ? [clash] : []), ...runs.conflicts, ...files.conflicts];
  const conflictCount =
    (clash ? 1 : 0) + runs.findings.conflictCount + files.findings.conflictCount;
  const isHere = same.datasetId !== null ? 'IDENTICAL' : same.importId !== null ? 'RESUMED' : 'NEW';
  return {
    outcome: conflictCount > 0 ? 'CONFLICT' : isHere,
    dataset: name,
    site: head.site,
    signedBy,
    files: files.findings,
    runs: runs.findings,
    conflictCount,
    conflicts: conflicts.slice(0, mostConflictsTold),
    same,
  };
}

function clashOf(same: SameName, name: string, head: ManifestHead): Conflict | undefined {
  const { datasetId, importId, isSame } = same;
  const clash = (what: string): Conflict => ({ line: 1, code: 'DUPLICATE', what });
  if (datasetId !== null) {
    return isSame
      ? undefined
      : clash(
          `the name ${name} is taken by a dataset with other files: import it under another name`,
        );
  }
  if (importId === null || (isSame && same.importSite === head.site)) return undefined;
  return clash(`import ${importId} of ${name} is under way with other files: cancel it first`);
}

/** One refusal for all that contradicts, with the first lines. */
function refusalOf({ conflicts, conflictCount, dataset }: Plan): SweepbookError {
  const [first] = conflicts;
  const more = conflictCount > 1 ? ` (and ${conflictCount - 1} more)` : '';
  return new SweepbookError(
    (first?.code ?? 'DUPLICATE') as ErrorCode,
    `line ${first?.line}: ${first?.what}${more}`,
    { dataset, line: first?.line, count: conflictCount, first: conflicts },
  );
}

const rowsAtOnce = 2000;

/**
 * Keeps what a manifest tells, in short transactions: an open one would hold up the log for everybody. Nothing refers
 * to it before it is accepted.
 */
async function stage(db: Db, viewer: Viewer, { path, source }: CheckedManifest): Promise<number> {
  const id = await inTransaction(db, viewer, async (tx) => {
    const row = await firstRow(
      tx,
      sql<{ id: number }>`insert into import_receipts default values returning id`,
    );
    return row?.id ?? 0;
  });
  try {
    let runs: object[] = [];
    let files: object[] = [];
    const flush = async (least: number) => {
      if (runs.length + files.length < least) return;
      await inTransaction(db, viewer, (tx) => stageInTransaction(tx, id, runs, files));
      runs = [];
      files = [];
    };
    for await (const line of readManifest(path)) {
      if (line.kind === 'run') runs.push({ line: line.line, ...stagedRun(line.run) });
      if (line.kind === 'file') files.push({ line: line.line, ...stagedFile(line.file, source) });
      await flush(rowsAtOnce);
    }
    await flush(1);
    return id;
  } catch (error) {
    await discard(db, id).catch(() => undefined);
    throw error;
  }
}

const stagedRun = (run: ManifestRun): object => run;

function stagedFile(
  { urls, parents, kind: _kind, ...file }: ManifestFile,
  source: ImportSource,
): object {
  return {
    ...file,
    parents: parents.first,
    // What may not be read is forgotten at once.
    urls: urls.filter((url) => readableAt(source, url) !== undefined),
  };
}

async function stageInTransaction(
  tx: Db,
  id: number,
  runs: readonly object[],
  files: readonly object[],
): Promise<void> {
  await rows(tx, sql`update import_receipts set touched_at = now() where id = ${id}`);
  await rows(
    tx,
    sql`insert into import_runs (import_id, line, source, number, started_at, ended_at, event_count, luminosity,
        conditions, verdict, verdict_comment)
      select ${id}::bigint, line, source, number, "startedAt", "endedAt", "eventCount", luminosity, conditions, verdict,
        "verdictComment"
      from jsonb_to_recordset(${JSON.stringify(runs)}::jsonb) as t (line integer, source text, number integer,
        "startedAt" timestamptz, "endedAt" timestamptz, "eventCount" bigint, luminosity double precision,
        conditions text, verdict text, "verdictComment" text)`,
  );
  await rows(
    tx,
    sql`insert into import_files (import_id, line, lfn, size_bytes, adler32, sha256, event_count, stream, release, site,
        runs, parents, urls)
      select ${id}::bigint, line, lfn, "sizeBytes", adler32, sha256, "eventCount", stream, release, site, runs, parents,
        array(select jsonb_array_elements_text(urls))
      from jsonb_to_recordset(${JSON.stringify(files)}::jsonb) as t (line integer, lfn text, "sizeBytes" bigint,
        adler32 text, sha256 text, "eventCount" bigint, stream text, release text, site text, runs jsonb, parents jsonb,
        urls jsonb)`,
  );
}

/** Throws away what was received and is no import. */
async function discard(db: Db, id: number): Promise<void> {
  await inTransaction(db, { principal: 'sweepbook' }, async (tx) => {
    await rows(tx, sql`delete from import_files where import_id = ${id}`);
    await rows(tx, sql`delete from import_runs where import_id = ${id}`);
    await rows(tx, sql`delete from import_receipts where id = ${id}`);
  });
}

/** What servers that died had received and not accepted. */
export async function discardForgotten(db: Db): Promise<number> {
  const forgotten = await rows(
    db.fork(),
    sql<{
      id: number;
    }>`select id from import_receipts r where touched_at < now() - interval '2 hours'
      and not exists (select from imports i where i.id = r.id) limit 20`,
  );
  for (const { id } of forgotten) await discard(db, id);
  return forgotten.length;
}
