import { createWriteStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Asked } from '../../access/audit-trail.ts';
import { demand, type Viewer } from '../../access/policy.ts';
import type { Means } from '../../api/context.ts';
import { badInput } from '../../errors.ts';
import { importDataset, withSpool } from '../../imports/import-dataset.service.ts';
import { manifestLimits } from '../../imports/manifest.ts';
import { exportable, manifestText } from '../../imports/manifest-writer.ts';
import { receiveManifest, type ReceiveOptions } from '../../imports/receive.service.ts';
import type { Limits } from '../../limits.ts';
import type { AddressOf } from '../address.ts';
import { Counts } from '../connections.ts';
import { chosenEncoding } from '../export/encoding.ts';
import { sendList, type RunningExports } from '../export/send.ts';
import { rateLimited } from '../gate.ts';

type Query = Record<string, unknown>;
interface NamedDataset {
  Params: { name: string };
}

interface ManifestOptions {
  readonly means: Means;
  readonly viewerOf: (request: FastifyRequest) => Viewer;
  readonly addressOf: AddressOf;
  readonly lists: RunningExports;
  readonly limits: Limits;
}

/** Manifests out (who may see the dataset may have its manifest) and in (for importers). */
export async function serveManifests(
  app: FastifyInstance,
  options: ManifestOptions,
): Promise<void> {
  const { means, viewerOf, lists } = options;
  app.get<NamedDataset>('/export/datasets/:name/manifest', async (request, reply) => {
    const viewer = viewerOf(request);
    const encoding = chosenEncoding(request.headers['accept-encoding']);
    if (encoding === undefined) {
      throw badInput(
        'Accept-Encoding',
        request.headers['accept-encoding'],
        'zstd, gzip or identity',
      );
    }
    const dataset = await exportable(means.db, viewer, request.params.name);
    const headers = {
      vary: 'Authorization, Accept-Encoding',
      // Another one each time: it says when it was written.
      'cache-control': 'no-store',
      'content-type': 'application/x-ndjson; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'x-sweepbook-count': String(dataset.fileCount),
    };
    if (request.method === 'HEAD') return reply.headers(headers).send();
    const place = lists.enter(viewer, request);
    try {
      let files = 0;
      const text = manifestText(means, viewer, dataset, () => files++);
      await sendList(request, reply, {
        headers,
        text,
        encoding,
        running: place,
        count: () => files,
      });
    } finally {
      place.leave();
    }
    return reply;
  });

  await app.register(async (scope) => serveReceiving(scope, options));
}

/** In a scope of its own: here alone a body is taken as it comes, of whatever size the limits of manifests allow. */
async function serveReceiving(
  scope: FastifyInstance,
  { means, viewerOf, addressOf, limits }: ManifestOptions,
): Promise<void> {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  const receiving = new Counts();
  scope.post<{ Querystring: Query }>('/imports', async (request) => {
    const viewer = viewerOf(request);
    demandFew(receiving, viewer, limits);
    const leave = receiving.add(viewer.principal);
    const asked: Asked = {
      viewer,
      requestId: request.id,
      address: addressOf(request.raw),
      kind: 'REQUEST',
      field: 'POST /imports',
      operation: '/imports',
    };
    try {
      return await means.trail.change(asked, async () => receive(means, viewer, request));
    } finally {
      leave();
    }
  });
}

/** The manifest that is sent, or that of a dataset of another site. */
async function receive(
  means: Means,
  viewer: Viewer,
  request: FastifyRequest<{ Querystring: Query }>,
) {
  demand(viewer, 'importDatasets');
  const options = optionsOf(request.query);
  const { from, dataset } = request.query;
  const received =
    from === undefined
      ? await withSpool(means, async (path) => {
          await spool(request, path);
          return receiveManifest(means, viewer, path, options);
        })
      : await importDataset(means, viewer, {
          ...options,
          from: textOf('from', from),
          dataset: textOf('dataset', dataset),
        });
  if (received.changed) means.ring();
  return received;
}

/** A manifest takes disk and time while it comes in: each of us a few at once. */
function demandFew(receiving: Counts, { principal }: Viewer, { manifests }: Limits): void {
  if (receiving.of(principal) < manifests) return;
  const why = `${principal} has ${manifests} manifests under way: wait until one has been taken`;
  throw rateLimited('manifests', manifests, why);
}

/** The body to disk first, as fast as it comes: what is slow waits for nobody's connection. */
async function spool(request: FastifyRequest, path: string): Promise<void> {
  const body = request.body as Readable | undefined | null;
  if (!body || typeof body.pipe !== 'function') {
    throw badInput('body', null, 'send the manifest, packed (gzip, zstd) or not');
  }
  const most = manifestLimits.packedBytes;
  let bytes = 0;
  await pipeline(
    body,
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        if (bytes > most)
          throw badInput('body', bytes, `at most ${most} bytes: pack it (gzip, zstd)`);
        yield chunk;
      }
    },
    createWriteStream(path, { flags: 'wx', mode: 0o600 }),
  );
  if (bytes === 0) throw badInput('body', '', 'send the manifest, packed (gzip, zstd) or not');
}

function textOf(field: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value;
  throw badInput(field, value, 'one value, once');
}

const known = new Set(['dryRun', 'name', 'store', 'from', 'dataset']);

function optionsOf(query: Query): ReceiveOptions {
  const strange = Object.keys(query).find((field) => !known.has(field));
  if (strange !== undefined)
    throw badInput(strange, query[strange], `known are ${[...known].join(', ')}`);
  const { dryRun, name, store } = query;
  if (dryRun !== undefined && dryRun !== 'true' && dryRun !== 'false') {
    throw badInput('dryRun', dryRun, 'true or false');
  }
  return {
    dryRun: dryRun === 'true',
    name: name === undefined ? undefined : textOf('name', name),
    store: store === undefined ? undefined : textOf('store', store),
  };
}
