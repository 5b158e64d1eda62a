import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Viewer } from '../../access/policy.ts';
import type { Means } from '../../api/context.ts';
import { listMassStores } from '../../backups/mass-stores.service.ts';
import {
  listedDatasets,
  otherwiseNamed,
  runStateOf,
  uncountedFiles,
  type ListedDataset,
} from '../../datasets/datasets-export.queries.ts';
import { findDataset } from '../../datasets/datasets.queries.ts';
import { badInput, SweepbookError } from '../../errors.ts';
import { currentPlace, writePlace } from '../../events/events.queries.ts';
import { chosenEncoding } from './encoding.ts';
import type { ListFacts } from './format.ts';
import { formats } from './formats.ts';
import { listText, Tally, type ExportList } from './list-text.ts';
import { readParameters, type ExportParameters } from './parameters.ts';
import { RunningExports, sendList } from './send.ts';

/** What a list is made of: datasets, of which each file is listed once. */
interface ListSource {
  readonly facts: ListFacts;
  readonly datasetIds: readonly number[];
}

type Query = Record<string, unknown>;
interface NamedList {
  Params: { name: string };
  Querystring: Query;
}

/** Lists of files as jobs read them, streamed from the database; who may see the dataset may have them. */
export function serveExports(
  app: FastifyInstance,
  means: Means,
  viewerOf: (request: FastifyRequest) => Viewer,
): void {
  const running = new RunningExports();
  app.addHook('preClose', () => running.end());
  app.get<NamedList>('/export/datasets/:name/files', async (request, reply) => {
    const parameters = readParameters(request.query, means.epoch);
    const viewer = viewerOf(request);
    const source = await datasetSource(means, viewer, request.params.name, parameters);
    return serveList({ means, running, viewer, request, reply }, source, parameters);
  });
}

async function datasetSource(
  means: Means,
  viewer: Viewer,
  name: string,
  { tree }: ExportParameters,
): Promise<ListSource> {
  const dataset = await findDataset(means.db.fork(), viewer, name);
  if (!dataset) {
    throw new SweepbookError(
      'NOT_FOUND',
      `no dataset ${name} that you may see: names are case-sensitive, and what is not closed is not shown`,
      { dataset: name },
    );
  }
  const { id, kind, status, stream, release, eventCount } = dataset;
  const treeName = tree ?? dataset.treeName;
  return {
    facts: { name: dataset.name, kind, status, stream, release, treeName, eventCount },
    datasetIds: [id],
  };
}

interface Asked {
  readonly means: Means;
  readonly running: RunningExports;
  readonly viewer: Viewer;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

async function serveList(
  { means, running, viewer, request, reply }: Asked,
  source: ListSource,
  parameters: ExportParameters,
): Promise<FastifyReply> {
  const encoding = chosenEncoding(request.headers['accept-encoding']);
  if (encoding === undefined) {
    const given = request.headers['accept-encoding'];
    const { code, message, facts } = badInput(
      'Accept-Encoding',
      given,
      'lists come as zstd, gzip or identity',
    );
    return reply.code(406).send({ code, message, facts });
  }
  // Before anything else is read, so that who follows from it misses nothing.
  const marker = writePlace(means.epoch, await currentPlace(means.db.fork()));
  const datasets = await listedDatasets(means.db, viewer, source.datasetIds);
  if (datasets.length < source.datasetIds.length) throw vanished(source.facts);
  const list = { facts: source.facts, datasets, parameters };
  await demandFitting(means, list);
  const isPublic = datasets.every((dataset) => dataset.isAvailable);
  const etag = await etagOf(means, list);
  void reply
    .header('vary', 'Authorization, Accept-Encoding')
    .header('cache-control', isPublic ? 'public, no-cache' : 'private, no-store')
    .header('x-content-type-options', 'nosniff')
    .header('x-sweepbook-marker', marker)
    .type(formats[parameters.format].contentType);
  if (etag !== undefined) void reply.header('etag', etag);
  if (etag !== undefined && isNamed(etag, request.headers['if-none-match'])) {
    return reply.code(304).send();
  }
  const known = wholeCount(list);
  if (known !== undefined) void reply.header('x-sweepbook-count', String(known));
  if (request.method === 'HEAD') return reply.send();
  const place = running.enter(viewer.principal);
  try {
    const tally = new Tally();
    const text = listText(means, viewer, list, tally);
    const count = () => tally.files;
    await sendList(request, reply, { text, encoding, signal: place.signal, count });
  } finally {
    place.leave();
  }
  return reply;
}

const vanished = ({ name }: ListFacts) =>
  new SweepbookError('UNAVAILABLE', `${name} has just changed: ask again`, { name });

/** Refuses what its reader could not use, while it can still be said. */
async function demandFitting(
  means: Means,
  { facts: { name, treeName }, datasets, parameters }: ExportList,
): Promise<void> {
  const { format, filter, split } = parameters;
  const { needsTree, ending } = formats[format];
  if (needsTree && treeName === null) {
    throw badInput(
      'tree',
      treeName,
      `${name} names no tree, and ${format} needs one: tree=Events for one`,
    );
  }
  const ids = datasets.map((dataset) => dataset.id);
  if (ending !== undefined) {
    const { count, first } = await otherwiseNamed(means.db, ids, ending);
    if (count > 0) {
      throw new SweepbookError(
        'BAD_USER_INPUT',
        `${count} files of ${name} do not end in ${ending}, ${first[0]} for one, and readers of ${format} take no others: ask for another format`,
        { field: 'format', count, first },
      );
    }
  }
  if (split === undefined) return;
  const { count, first } = await uncountedFiles(means.db, ids, filter);
  if (count > 0) {
    throw new SweepbookError(
      'BAD_USER_INPUT',
      `split: ${count} files of ${name} have no event count, ${first[0]} for one: ask for the list unsplit`,
      { field: 'split', count, first },
    );
  }
}

/** How many files will be listed, where that is known before. */
function wholeCount({ datasets, parameters: { filter, chunk } }: ExportList): number | undefined {
  const isPart =
    chunk !== undefined ||
    filter.goodRuns ||
    [filter.runs, filter.since, filter.asOf].some(Boolean);
  return isPart || datasets.length > 1 ? undefined : (datasets[0]?.fileCount ?? 0);
}

/** Counts up when the same list would be written otherwise by a later version of this program. */
const revision = 1;

/**
 * Weak: the same list, however it is packed. None where the copies behind files that have no confirmed backup
 * could change unseen.
 */
async function etagOf(
  means: Means,
  { facts, datasets, parameters }: ExportList,
): Promise<string | undefined> {
  if (datasets.some(({ confirmedCount, fileCount }) => confirmedCount < fileCount))
    return undefined;
  const ids = datasets.map((dataset) => dataset.id);
  const tellsOfRuns = formats[parameters.format].detail === 'facts' || parameters.filter.goodRuns;
  const content = [
    revision,
    facts,
    parameters,
    datasets.map((dataset: ListedDataset) => Object.values(dataset)),
    await listMassStores(means.db),
    tellsOfRuns ? await runStateOf(means.db, ids) : '',
  ];
  const digest = createHash('sha256').update(JSON.stringify(content)).digest('base64url');
  return `W/"${digest.slice(0, 27)}"`;
}

const isNamed = (etag: string, header: string | undefined) =>
  (header ?? '')
    .split(',')
    .map((tag) => tag.trim())
    .some((tag) => tag === '*' || tag.replace(/^W\//, '') === etag.replace(/^W\//, ''));
