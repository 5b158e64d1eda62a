import type { Viewer } from '../../access/policy.ts';
import type { Means } from '../../api/context.ts';
import { listMassStores } from '../../backups/mass-stores.service.ts';
import {
  areUnchanged,
  exportFiles,
  type ExportRow,
  type ListedDataset,
  type ListFilter,
} from '../../datasets/datasets-export.queries.ts';
import { SweepbookError } from '../../errors.ts';
import { formats } from '../../formats/formats.ts';
import type { ExportFile, ListFacts } from '../../formats/list.ts';
import { Splitter, Tally } from '../../formats/tally.ts';
import { openUrls } from './online.ts';
import type { ExportParameters } from './parameters.ts';

/** A list as it is asked for. */
export interface ExportList {
  readonly facts: ListFacts;
  readonly datasets: readonly ListedDataset[];
  readonly parameters: ExportParameters;
  /** What of the parameters goes for files; moments of a container have chosen its datasets. */
  readonly filter: ListFilter;
}

/**
 * The text of a list, piece by piece. Ends with an error where a dataset in it has changed or turned bad meanwhile:
 * nobody reads on, and what was read does not look complete.
 * Errors: NOT_FOUND when there is no such chunk, UNAVAILABLE when the list has changed.
 */
export async function* listText(
  means: Means,
  viewer: Viewer,
  list: ExportList,
  tally: Tally,
): AsyncGenerator<string, void, void> {
  const { facts, datasets, parameters } = list;
  const writer = formats[parameters.format].writer(facts);
  const demandSame = async () => {
    if (await areUnchanged(means.db, viewer, datasets)) return;
    throw new SweepbookError(
      'UNAVAILABLE',
      `the list of ${facts.name} has changed while it was read: ask for it again`,
      { name: facts.name },
    );
  };
  let text = writer.head();
  for await (const page of wantedFiles(means, list, tally)) {
    for (const file of page) {
      tally.add(file);
      text += writer.file(file);
    }
    await demandSame();
    if (tally.files === 0 || text === '') continue;
    yield text;
    text = '';
  }
  await demandSame();
  if (parameters.chunk !== undefined && tally.files === 0) throw noChunk(facts, tally, parameters);
  if (parameters.chunk !== undefined) tally.chunks = undefined;
  yield text + writer.tail(tally.totals);
}

function noChunk({ name }: ListFacts, { chunks }: Tally, asked: ExportParameters): SweepbookError {
  return new SweepbookError(
    'NOT_FOUND',
    `${name} has no chunk ${asked.chunk}: with split=${asked.split} there are ${chunks ?? 0}`,
    { name, chunks: chunks ?? 0 },
  );
}

function gone(name: string, { lfn }: ExportRow): never {
  throw new SweepbookError(
    'UNAVAILABLE',
    `the list of ${name} has changed while it was read: ${lfn} is not on disk any more; stage it, and ask again`,
    { name, lfn },
  );
}

/** The files of the list with their chunks and their URLs; of one chunk only, if one is asked for. */
async function* wantedFiles(
  means: Means,
  { facts: { name }, datasets, filter, parameters }: ExportList,
  tally: Tally,
): AsyncGenerator<ExportFile[], void, void> {
  const { format, split, chunk: wanted, protocol } = parameters;
  const rows = await listMassStores(means.db);
  const online = protocol && (await openUrls(means, protocol));
  const stores = new Map(rows.map((row) => [row.id, means.stores.of(row)]));
  const content = {
    filter,
    detail: formats[format].detail,
    defaultStoreId: rows.find((row) => row.isDefault)?.id,
  };
  const splitter = split === undefined ? undefined : new Splitter(split);
  const ids = datasets.map((dataset) => dataset.id);
  for await (const page of exportFiles(means.db, ids, content)) {
    // In place: a million lines are a million objects less.
    const urls = online && (await online(page));
    const files = page.map((row): ExportFile => {
      if (urls) return Object.assign(row, { url: urls.get(row.fileId) ?? gone(name, row) });
      const store = row.storeId === null ? undefined : stores.get(row.storeId);
      const isStored = store !== undefined && row.storeKey !== null;
      return Object.assign(row, {
        url: isStored ? store.accessUrl(row.storeKey) : row.replicaPath,
      });
    });
    if (!splitter) {
      yield files;
      continue;
    }
    const inChunks = files.map((file): ExportFile =>
      Object.assign(file, { chunk: splitter.chunkOf(file) }),
    );
    tally.chunks = splitter.chunk;
    if (wanted === undefined) {
      yield inChunks;
      continue;
    }
    yield inChunks.filter((file) => file.chunk === wanted);
    if (splitter.chunk > wanted) return;
  }
}
