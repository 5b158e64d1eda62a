import { createHash } from 'node:crypto';
import type { Viewer } from '../access/policy.ts';
import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { findDataset, type DatasetRow } from '../datasets/datasets.queries.ts';
import { SweepbookError } from '../errors.ts';
import { writePlace, currentPlace } from '../events/events.queries.ts';
import type { OpenStores } from '../storage/open.ts';
import { originsOf } from './imports.queries.ts';
import {
  manifestVersion,
  type ManifestEnd,
  type ManifestFile,
  type ManifestHead,
} from './manifest.ts';
import {
  manifestFiles,
  manifestRuns,
  stateOf,
  type ManifestFileRow,
} from './manifest-export.queries.ts';
import type { Signer } from '../storage/ed25519.ts';

export interface Exporting {
  readonly db: Db;
  readonly stores: OpenStores;
  readonly site: string;
  readonly epoch: string;
  readonly signer: Signer | undefined;
}

/** A dataset that may leave this site; NOT_FOUND, DATASET_BAD, DATASET_NOT_CLOSED. */
export async function exportable(db: Db, viewer: Viewer, name: string): Promise<DatasetRow> {
  const dataset = await findDataset(db.fork(), viewer, name);
  if (!dataset) {
    throw new SweepbookError(
      'NOT_FOUND',
      `no dataset ${name} that you may see: names are case-sensitive, and what is not closed is not shown`,
      { dataset: name },
    );
  }
  if (dataset.isAvailable) return dataset;
  const code = dataset.isBad ? 'DATASET_BAD' : 'DATASET_NOT_CLOSED';
  const why = dataset.isBad ? 'it is marked bad' : `it is ${dataset.status}: close it first`;
  throw new SweepbookError(code, `dataset ${name} is not exported: ${why}`, { dataset: name });
}

/**
 * The manifest of a dataset, piece by piece, with flat memory. A closed dataset never changes, so that its pages are
 * of one moment; should it turn bad, or a run get another verdict meanwhile, the manifest ends with an error and
 * without its last line, and nobody takes it for one. `written` hears of each file.
 */
export async function* manifestText(
  means: Exporting,
  viewer: Viewer,
  dataset: DatasetRow,
  written: () => void = () => undefined,
): AsyncGenerator<string, void, void> {
  const { db, signer } = means;
  const state = await stateOf(db, viewer, dataset.id);
  const digest = createHash('sha256');
  let [runs, files] = [0, 0];
  const text = (...lines: object[]) => {
    const piece = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    digest.update(piece);
    return piece;
  };
  yield text(await headOf(means, dataset));
  for await (const page of manifestRuns(db, viewer, dataset.id)) {
    runs += page.length;
    yield text(...page.map((run) => ({ run })));
  }
  const urls = await urlsOf(means);
  for await (const page of manifestFiles(db, dataset.id)) {
    files += page.length;
    yield text(...page.map((row) => ({ file: fileOf(row, urls(row)) })));
    for (let at = 0; at < page.length; at++) written();
  }
  if ((await stateOf(db, viewer, dataset.id)) !== state || state === '') {
    throw new SweepbookError(
      'UNAVAILABLE',
      `dataset ${dataset.name} has changed meanwhile: export it again`,
      {
        dataset: dataset.name,
      },
    );
  }
  const sha256 = digest.digest('hex');
  const end: ManifestEnd = { runs, files, sha256, signature: signer?.sign(sha256) ?? null };
  yield `${JSON.stringify({ end })}\n`;
}

async function headOf({ db, site, epoch }: Exporting, dataset: DatasetRow): Promise<ManifestHead> {
  const { name, kind, owner, stream, release, treeName, description, backupWaived } = dataset;
  const { fileCount, sizeBytes, eventCount, runCount, luminosity, closedAt } = dataset;
  return {
    sweepbook: 'manifest',
    version: manifestVersion,
    site,
    exportedAt: new Date().toISOString(),
    cursor: writePlace(epoch, await currentPlace(db.fork())),
    dataset: {
      id: String(dataset.id),
      name,
      kind,
      owner,
      stream,
      release,
      treeName,
      description,
      backupWaived,
      fileCount,
      sizeBytes,
      eventCount,
      runCount,
      luminosity,
      closedAt: closedAt?.toISOString() ?? '',
      origins: await originsOf(db, dataset.id),
    },
  };
}

/** What a job opens: copies in mass stores, or on disk where none has it. */
async function urlsOf({ db, stores }: Exporting): Promise<(row: ManifestFileRow) => string[]> {
  const known = new Map((await listMassStores(db)).map((row) => [row.id, stores.of(row)]));
  return ({ copies, paths }) => {
    const urls = copies.flatMap(({ storeId, key }) => known.get(storeId)?.accessUrl(key) ?? []);
    return [...new Set([...urls, ...paths])].slice(0, 20);
  };
}

function fileOf(row: ManifestFileRow, urls: string[]): ManifestFile {
  const { lfn, sizeBytes, adler32, sha256, eventCount, stream, release, site, runs, mergedFrom } =
    row;
  return {
    lfn,
    kind: 'MERGED_FILE',
    sizeBytes,
    adler32,
    sha256,
    eventCount,
    stream,
    release,
    site,
    runs,
    mergedFrom,
    parents: { count: row.parentCount, first: row.parents },
    urls,
  };
}
