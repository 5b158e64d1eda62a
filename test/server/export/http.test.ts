import { get, type IncomingMessage } from 'node:http';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chosenEncoding } from '../../../src/server/export/encoding.ts';
import { makeDataset, mutate, newFile, register } from '../../support/scene.ts';
import { startTestServer, type TestServer } from '../../support/server.ts';

let server: TestServer;
let address: string;

beforeAll(async () => {
  server = await startTestServer();
  ({ address } = server);
});
afterAll(() => server.close());

const pathOf = (name: string, query = '') => `/export/datasets/${name}/files?format=jsonl${query}`;

describe('not modified', () => {
  const tagOf = async (query = '', name = 'tagged') => {
    const response = await server.anonymous.get(pathOf(name, query), { 'accept-encoding': 'gzip' });
    await response.text();
    return response.headers.get('etag');
  };
  const statusWith = async (tag: string | null, query = '') =>
    (await server.anonymous.get(pathOf('tagged', query), { 'if-none-match': tag ?? '' })).status;

  test('while the list is the same, and only then', async () => {
    const runs = [301, 302].map((number) => ({
      number,
      source: 'DATA',
      endedAt: '2026-01-01T00:00:00Z',
    }));
    await mutate(server.operator, 'registerRuns', { runs }, 'results { outcome }');
    const files = [await newFile('/tagged/a.root', { runs: [{ number: 301, source: 'DATA' }] })];
    await register(server.operator, ...files);
    await makeDataset(server.operator, 'tagged', 'CLOSED', { files, treeName: 'T' });
    const tag = await tagOf();
    expect(tag).toMatch(/^W\/"[\w-]{27}"$/);
    expect(await statusWith(tag)).toBe(304);
    expect(await statusWith(`"other", ${tag?.slice(2)}`)).toBe(304);
    expect(await statusWith('*')).toBe(304);
    expect(await statusWith('"other"')).toBe(200);
    // Another question, another list.
    for (const query of ['&runs=301', '&goodRuns=true', '&split=10', '&tree=x']) {
      expect(await statusWith(tag, query), query).toBe(200);
    }
    const good = await tagOf('&goodRuns=true');
    await mutate(server.operator, 'setRunVerdict', { number: 301, verdict: 'GOOD' });
    expect(await tagOf('&goodRuns=true')).not.toBe(good);
    expect(await tagOf()).toBe(tag);
    // More becomes known of the file.
    await server.database.sql(`insert into file_runs (file_id, run_id)
      select f.id, r.id from files f, runs r where f.lfn = '/tagged/a.root' and r.number = 302`);
    const later = await tagOf();
    expect(later).not.toBe(tag);
    // Where the copies are.
    await server.database.sql(`update mass_stores set url_prefix = 'root://elsewhere//'`);
    expect(await tagOf()).not.toBe(later);
    await server.database.sql('update mass_stores set url_prefix = null');
    expect(await tagOf()).toBe(later);
  });

  test('never when a copy has been lost and another one found', async () => {
    const tag = await tagOf();
    const { database } = server;
    const sql = database.sql.bind(database);
    const of = `file_id = (select id from files where lfn = '/tagged/a.root')`;
    await mutate(server.operator, 'markDatasetBad', { dataset: 'tagged', reason: 'lost' });
    expect(await statusWith(tag)).toBe(409);
    const [was] = await sql<{ version: string }>(
      'select coalesce(max(version), 0) as version from list_changes',
    );
    await sql(`update backup_records set status = 'LOST' where ${of}`);
    const [now] = await sql<{ version: string }>(
      'select max(version) as version from list_changes',
    );
    expect(Number(now?.version)).toBe(Number(was?.version) + 1);
  });

  test('not where files have no confirmed copy: what is listed can change unseen', async () => {
    await makeDataset(server.operator, 'unfinished', 'OPEN');
    const response = await server.operator.get(pathOf('unfinished'));
    expect(response.headers.get('etag')).toBeNull();
    expect(response.headers.get('cache-control')).toBe('private, no-store');
    await response.text();
  });
});

describe('packed', () => {
  test.each([
    [undefined, 'identity'],
    ['', 'identity'],
    ['gzip', 'gzip'],
    ['x-gzip', 'gzip'],
    ['gzip, deflate, br, zstd', 'zstd'],
    ['gzip;q=1.0, zstd;q=0.5', 'gzip'],
    ['GZIP;Q=0.5', 'gzip'],
    ['br', 'identity'],
    ['*', 'zstd'],
    ['zstd;q=0, *;q=0.1', 'gzip'],
    ['identity, gzip;q=0.5', 'identity'],
    ['gzip;q=0', 'identity'],
    ['br, identity;q=0', undefined],
    ['*;q=0', undefined],
    ['gzip;q=x', 'identity'],
  ])('%j asks for %s', (header, encoding) => {
    expect(chosenEncoding(header)).toBe(encoding);
  });

  const raw = async (headers: Record<string, string>, method = 'GET') =>
    new Promise<{ response: IncomingMessage; body: Buffer }>((resolve, reject) => {
      const request = get(`${address}${pathOf('packed')}`, { headers, method }, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () => resolve({ response, body: Buffer.concat(parts) }));
        response.on('error', reject);
      });
      request.on('error', reject);
      request.end();
    });

  test('is the same list, with the count behind it', async () => {
    await makeDataset(server.operator, 'packed', 'CLOSED', { fileCount: 3 });
    const plain = await raw({});
    expect(plain.response.headers['content-encoding']).toBeUndefined();
    const gzip = await raw({ 'accept-encoding': 'gzip' });
    const zstd = await raw({ 'accept-encoding': 'zstd' });
    expect(gunzipSync(gzip.body)).toEqual(plain.body);
    expect(zstdDecompressSync(zstd.body)).toEqual(plain.body);
    for (const { response } of [plain, gzip, zstd]) {
      expect(response.headers).toMatchObject({
        vary: 'Authorization, Accept-Encoding',
        trailer: 'X-Sweepbook-Count',
        'x-sweepbook-count': '3',
        etag: plain.response.headers.etag,
        'x-request-id': expect.any(String),
      });
      expect(response.trailers).toEqual({ 'x-sweepbook-count': '3' });
    }
    expect((await raw({ 'accept-encoding': 'identity;q=0' })).response.statusCode).toBe(406);
    const head = await raw({}, 'HEAD');
    expect(head.body).toHaveLength(0);
    expect(head.response.headers).toMatchObject({
      'x-sweepbook-count': '3',
      etag: plain.response.headers.etag,
    });
  });
});
