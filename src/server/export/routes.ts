import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Viewer } from '../../access/policy.ts';
import type { Means } from '../../api/context.ts';
import { listMassStores } from '../../backups/mass-stores.service.ts';
import {
  otherwiseNamed,
  runStateOf,
  uncountedFiles,
  type ListedDataset,
} from '../../datasets/datasets-export.queries.ts';
import { badInput, SweepbookError } from '../../errors.ts';
import { currentPlace, writePlace } from '../../events/events.queries.ts';
import { chosenEncoding } from './encoding.ts';
import { formats } from '../../formats/formats.ts';
import type { ListFacts } from '../../formats/list.ts';
import { Tally } from '../../formats/tally.ts';
import { listText, type ExportList } from './list-text.ts';
import { demandOnline } from './online.ts';
import { readParameters, type ExportParameters } from './parameters.ts';
import { RunningExports, sendList } from './send.ts';
import { containerSource, datasetSource, type FindSource, type ListSource } from './sources.ts';

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
  running: RunningExports,
): void {
  const lists = { datasets: datasetSource, containers: containerSource };
  for (const [collection, findSource] of Object.entries(lists)) {
    app.get<NamedList>(`/export/${collection}/:name/files`, async (request, reply) => {
      const viewer = viewerOf(request);
      return serveList({ means, running, viewer, request, reply }, findSource, request.params.name);
    });
  }
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
  findSource: FindSource,
  name: string,
): Promise<FastifyReply> {
  const parameters = readParameters(request.query as Query, means.epoch);
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
  const now = await currentPlace(means.db.fork());
  const source = await findSource(means, viewer, name, parameters.filter, now);
  const { datasets, filter, unavailable } = source;
  const list = { facts: factsOf(source, parameters), datasets, filter, parameters };
  await demandFitting(means, list);
  const isPublic = datasets.every((dataset) => dataset.isAvailable);
  const etag = await etagOf(means, list);
  const known = wholeCount(list);
  const headers = {
    vary: 'Authorization, Accept-Encoding',
    'cache-control': isPublic ? 'public, no-cache' : 'private, no-store',
    'content-type': formats[parameters.format].contentType,
    'x-content-type-options': 'nosniff',
    'x-sweepbook-marker': writePlace(means.epoch, now),
    ...(unavailable > 0 ? { 'x-sweepbook-unavailable': String(unavailable) } : {}),
    ...(known === undefined ? {} : { 'x-sweepbook-count': String(known) }),
    ...(etag === undefined ? {} : { etag }),
  };
  if (etag !== undefined && isNamed(etag, request.headers['if-none-match'])) {
    return reply.code(304).headers(headers).send();
  }
  if (request.method === 'HEAD') return reply.headers(headers).send();
  const place = running.enter(viewer, request);
  try {
    const tally = new Tally();
    const text = listText(means, viewer, list, tally);
    const count = () => tally.files;
    await sendList(request, reply, { headers, text, encoding, running: place, count });
  } finally {
    place.leave();
  }
  return reply;
}

/** The tree is the one that is asked for, or the one that all datasets name. */
function factsOf({ facts, datasets }: ListSource, { tree }: ExportParameters): ListFacts {
  const trees = new Set(datasets.map((dataset) => dataset.treeName));
  const [named = null] = trees;
  return {
    ...facts,
    treeName: tree ?? (trees.size === 1 ? named : null),
    eventCount: datasets.reduce((sum, dataset) => sum + dataset.eventCount, 0),
  };
}

/** Refuses what its reader could not use, while it can still be said. */
async function demandFitting(
  means: Means,
  { facts: { name, treeName }, datasets, filter, parameters }: ExportList,
): Promise<void> {
  const { format, split, protocol } = parameters;
  if (protocol) await demandOnline(means, name, datasets, filter, protocol);
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
  // What lies in pools comes and goes unseen by the datasets.
  if (parameters.protocol !== undefined) return undefined;
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
