import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Viewer } from '../access/policy.ts';
import { exportFiles } from '../datasets/datasets-export.queries.ts';
import { findDataset } from '../datasets/datasets.queries.ts';
import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Means } from '../api/context.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { exportFormats, writers, type ExportFile, type Writer } from './export-formats.ts';

interface ExportRequest {
  Params: { name: string };
  Querystring: { format?: string };
}

/** Lists of files as jobs read them, streamed from the database; who may see the dataset may have them. */
export function serveExports(
  app: FastifyInstance,
  means: Means,
  viewerOf: (request: FastifyRequest) => Viewer,
): void {
  app.get<ExportRequest>('/export/datasets/:name/files', async (request, reply) => {
    const asked = request.query.format ?? 'txt';
    const format = exportFormats.find((known) => known === asked);
    if (!format) throw badInput('format', asked, `one of ${exportFormats.join(', ')}`);
    const viewer = viewerOf(request);
    const dataset = await findDataset(means.db.fork(), viewer, request.params.name);
    if (!dataset) {
      throw new SweepbookError(
        'NOT_FOUND',
        `no dataset ${request.params.name} that you may see: names are case-sensitive, and what is not closed is not shown`,
        { dataset: request.params.name },
      );
    }
    const etag = `"${dataset.id}-${dataset.version}-${format}"`;
    void reply
      .header('etag', etag)
      .header('vary', 'Authorization')
      .header('cache-control', dataset.isAvailable ? 'public, no-cache' : 'private, no-store')
      .header('x-content-type-options', 'nosniff')
      .header('x-sweepbook-count', String(dataset.fileCount));
    if (request.headers['if-none-match']?.includes(etag)) return reply.code(304).send();
    return send(reply, writers[format], files(means, dataset.id));
  });
}

function send(
  reply: FastifyReply,
  writer: Writer,
  list: AsyncIterable<ExportFile[]>,
): FastifyReply {
  async function* text(): AsyncGenerator<string, void, void> {
    if (writer.head !== '') yield writer.head;
    let count = 0;
    for await (const page of list) {
      count += page.length;
      yield page.map((file) => writer.line(file)).join('');
    }
    yield writer.tail(count);
  }
  return reply.type(writer.contentType).send(Readable.from(text(), { objectMode: false }));
}

async function* files(means: Means, datasetId: number): AsyncGenerator<ExportFile[], void, void> {
  const stores = new Map(
    (await listMassStores(means.db)).map((row) => [row.id, means.stores.of(row)]),
  );
  for await (const page of exportFiles(means.db, datasetId)) {
    yield page.map(({ storeId, storeKey, replicaPath, ...file }) => {
      const store = storeId === null ? undefined : stores.get(storeId);
      const url = store && storeKey !== null ? store.accessUrl(storeKey) : replicaPath;
      return { ...file, url };
    });
  }
}
