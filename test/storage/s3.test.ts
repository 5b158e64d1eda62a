import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { judge } from '../../src/storage/judge.ts';
import { S3Bucket } from '../../src/storage/s3-bucket.ts';
import { s3Settings } from '../../src/storage/s3-settings.ts';
import { S3Store } from '../../src/storage/s3.ts';
import { describeFile, makeFile } from '../support/files.ts';
import { isInstalled } from '../support/installed.ts';
import { SwiftForTests } from '../support/swift.ts';
import { codeOf, storeContract, type StoreUnderTest } from './contract.ts';
import { sweepInto } from './sweep.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

process.env['TEST_S3_ACCESS'] = 'test:tester';
process.env['TEST_S3_SECRET'] = 'testing';

const settingsOf = (endpoint: string, more: object = {}) =>
  s3Settings.parse({
    name: 'bucket',
    kind: 's3',
    endpoint,
    bucket: 'mass-store',
    prefix: 'of sweeps/',
    accessKey: { env: 'TEST_S3_ACCESS' },
    secretKey: { env: 'TEST_S3_SECRET' },
    partBytes: 5 * 1024 * 1024,
    copyPartBytes: 6 * 1024 * 1024,
    askSeconds: 20,
    leastBytesPerSecond: 10_000_000,
    ...more,
  });

async function openStore(endpoint: string, bucket: string): Promise<[S3Store, S3Bucket]> {
  const settings = settingsOf(endpoint, { bucket });
  const direct = new S3Bucket(settings);
  await direct.client.send(new CreateBucketCommand({ Bucket: bucket }));
  const store = new S3Store(settings);
  await store.prepare();
  return [store, direct];
}

const isHere = isInstalled('swift');
let started: Promise<SwiftForTests> | undefined;
const startedSwift = () => (started ??= SwiftForTests.start());
afterAll(async () => (await started)?.stop());

if (isHere) {
  const openBucket = async (): Promise<StoreUnderTest> => {
    const swift = await startedSwift();
    const [store, direct] = await openStore(swift.endpoint, 'contract');
    const write = async (key: string, bytes: Buffer) => {
      await direct.client.send(new PutObjectCommand({ ...direct.at(key), Body: bytes }));
    };
    const remove = async (key: string) => {
      await direct.client.send(new DeleteObjectCommand(direct.at(key)));
    };
    return {
      store,
      backDoor: {
        write,
        remove,
        unmount: async () => {
          await remove('.sweepbook-store');
          return () => write('.sweepbook-store', Buffer.from('again'));
        },
      },
      halfPublished: [
        ['nothing done', () => undefined],
        [
          'copied, and the temporary one still there',
          async (from, to) => {
            const target = join(tmpdir(), `sweepbook-s3-${process.pid}`);
            const size = (await store.sizeOf(from)) ?? 0;
            await store.fetch(from, target, { sizeBytes: size, adler32: '', sha256: null });
            await write(to, readFileSync(target));
            rmSync(target);
          },
        ],
      ],
      hasNoFolders: true,
      mayReplaceInARace: true,
      close: () => undefined,
    };
  };
  storeContract('S3 (OpenStack Swift)', openBucket, {
    freeze: async () => {
      const swift = await startedSwift();
      swift.signal('SIGSTOP');
      const impatient = settingsOf(swift.endpoint, { bucket: 'contract', askSeconds: 1 });
      return { store: new S3Store(impatient), thaw: () => swift.signal('SIGCONT') };
    },
  });
}

describe.runIf(isHere)('a store in a bucket', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-s3-test-'));
  let swift: SwiftForTests;
  let store: S3Store;
  let direct: S3Bucket;

  beforeAll(async () => {
    swift = await startedSwift();
    [store, direct] = await openStore(swift.endpoint, 'special');
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  test('a file of many parts comes in, is published part by part, and comes back byte by byte', async () => {
    const file = await makeFile(join(folder, 'parts'), 'first bytes', 13_000_001);
    const bytes = readFileSync(file.path);
    bytes.write('in the last part', 12_999_000);
    writeFileSync(file.path, bytes);
    const source = await describeFile(file.path);
    const key = temporaryKey(1, 1);
    const told: number[] = [];
    await store.put(file.path, key, source, { onProgress: (moved) => told.push(moved) });
    expect(judge(source, await store.ask(key))).toBeUndefined();
    await store.publish(key, 'parts.root');
    expect(judge(source, await store.ask('parts.root'))).toBeUndefined();
    expect(await store.listTemporary()).toEqual([]);
    // Another sum at its end: nothing is left of it, not even parts.
    const wrong = { ...source, sha256: 'ab'.repeat(32) };
    expect(await codeOf(store.put(file.path, key, wrong))).toBe('SOURCE_CHANGED');
    expect(await store.listTemporary()).toEqual([]);
    expect(await store.sizeOf(key)).toBeUndefined();
  });

  test('a sweep ends there, with bytes that were read back', async () => {
    const { check } = await sweepInto(
      `  - name: bucket
    kind: s3
    endpoint: ${swift.endpoint}
    bucket: special
    prefix: swept/
    accessKey: { env: TEST_S3_ACCESS }
    secretKey: { env: TEST_S3_SECRET }
    partBytes: 5242880
`,
      folder,
    );
    expect(check).toMatchObject({ code: 0, stderr: '' });
    expect(check.stdout).toMatch(/^bucket is up: bucket special at http/);
  });

  test('an upload that was begun and left is seen, and ended with its key', async () => {
    const key = temporaryKey(2, 7);
    await direct.client.send(new CreateMultipartUploadCommand(direct.at(key)));
    expect(await store.listTemporary()).toMatchObject([{ key, backupId: 2, attempt: 7 }]);
    await store.removeTemporary(key);
    expect(await store.listTemporary()).toEqual([]);
  });

  test('bytes that rot on its disk are said to be well, and are found by reading them', async () => {
    const file = await makeFile(join(folder, 'rots'), 'ROTTING BYTES', 100_000);
    const key = temporaryKey(3, 1);
    await store.put(file.path, key, file);
    for (const path of swift.objectFiles()) {
      const bytes = readFileSync(path);
      if (!bytes.includes('ROTTING BYTES')) continue;
      bytes[50_000] = 1;
      writeFileSync(path, bytes);
    }
    expect((await store.says(key, file)).sizeBytes).toBe(100_000);
    expect(judge(file, await store.ask(key))?.code).toMatch(/CHECKSUM_MISMATCH|NOT_CONFIRMED/);
    await store.removeTemporary(key);
  });

  test('a listing goes on behind the first page, of objects and of uploads that were begun', async () => {
    const small = new S3Store(settingsOf(swift.endpoint, { bucket: 'special' }), 2);
    const many = ['', 'b/c', 'b/d e', 'ü', 'x&y'].map((name) => `many/_${name}`);
    const begun = [1, 2, 3].map((attempt) => temporaryKey(5, attempt));
    for (const key of many) {
      await direct.client.send(new PutObjectCommand({ ...direct.at(key), Body: 'x' }));
    }
    for (const key of begun) {
      await direct.client.send(new CreateMultipartUploadCommand(direct.at(key)));
    }
    const keys: string[] = [];
    for await (const { key } of small.list()) if (key.startsWith('many/')) keys.push(key);
    expect(keys.toSorted()).toEqual(many.toSorted());
    expect((await small.listTemporary()).map(({ key }) => key).toSorted()).toEqual(begun);
    for (const key of begun) await small.removeTemporary(key);
    expect(await small.listTemporary()).toEqual([]);
  });

  test('wrong keys, another bucket and a secret that is not there make it unavailable', async () => {
    const refused = [
      { bucket: 'special', secretKey: { env: 'TEST_S3_ACCESS' } },
      { bucket: 'no-such-bucket' },
      { bucket: 'special', secretKey: { env: 'TEST_S3_NOT_SET' } },
      { bucket: 'special', secretKey: { file: join(folder, 'no such file') } },
    ];
    for (const more of refused) {
      const other = new S3Store(settingsOf(swift.endpoint, more));
      expect((await other.probe()).isUp).toBe(false);
      expect(await codeOf(other.sizeOf('parts.root')), JSON.stringify(more)).toBe(
        'STORE_UNAVAILABLE',
      );
      expect(await codeOf(other.ask('parts.root'))).toBe('STORE_UNAVAILABLE');
    }
  });
});

/** An S3 store of a few lines that says yes to all, and lies as it is told. */
class Liar {
  readonly objects = new Map<string, Buffer>();
  lie: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  private readonly server: Server = createServer((request, response) => {
    void this.answer(request, response);
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (this.lie(request, response)) return;
    const path = decodeURIComponent(new URL(request.url ?? '', 'http://s3').pathname);
    const held = this.objects.get(path);
    if (request.method === 'PUT') {
      const from = request.headers['x-amz-copy-source'] as string | undefined;
      const bytes =
        from === undefined
          ? Buffer.concat(chunks)
          : this.objects.get(`/${decodeURIComponent(from)}`);
      this.objects.set(path, bytes ?? Buffer.alloc(0));
      response.setHeader('etag', '"0"');
      return void response.end(
        from === undefined ? '' : '<CopyObjectResult><ETag>"0"</ETag></CopyObjectResult>',
      );
    }
    if (request.method === 'DELETE') this.objects.delete(path);
    if (request.method === 'DELETE') return void response.writeHead(204).end();
    if (!held) return void response.writeHead(404).end();
    response.writeHead(200, { 'content-length': held.length, etag: '"0"' });
    response.end(request.method === 'HEAD' ? undefined : held);
  }
}

describe('a store that lies', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-s3-liar-'));
  const liar = new Liar();
  let store: S3Store;
  let file: Awaited<ReturnType<typeof makeFile>>;
  const key = '.incoming/b1.a1';
  const path = `/mass-store/of sweeps/${key}`;

  beforeAll(async () => {
    const settings = settingsOf(await liar.start(), { askSeconds: 1 });
    store = new S3Store(settings);
    await store.prepare();
    file = await makeFile(join(folder, 'file'), 'truth', 100_000);
  });
  afterAll(() => {
    liar.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const ofObject = (request: IncomingMessage, method: string) =>
    request.method === method && decodeURIComponent(request.url ?? '').includes(key);

  test('one that tells the truth is believed', async () => {
    liar.lie = () => false;
    await store.put(file.path, key, file);
    expect(judge(file, await store.ask(key))).toBeUndefined();
  });

  test('that it took a body and kept half of it, or other bytes, is seen by what is read', async () => {
    await store.put(file.path, key, file);
    const held = liar.objects.get(path) ?? Buffer.alloc(0);
    liar.objects.set(path, held.subarray(0, 65_536));
    expect(judge(file, await store.ask(key))?.code).toBe('CHECKSUM_MISMATCH');
    liar.objects.set(path, Buffer.from(held.toString().replace('truth', 'lying')));
    expect(judge(file, await store.ask(key))?.code).toBe('CHECKSUM_MISMATCH');
    // "Yes" without having anything.
    liar.objects.delete(path);
    expect((await store.ask(key)).isPresent).toBe(false);
  });

  test.each<[string, (response: ServerResponse) => void, string]>([
    ['an empty yes', (response) => response.end(), 'CHECKSUM_MISMATCH'],
    ['a page for people', (response) => response.end('<html>OK</html>'), 'CHECKSUM_MISMATCH'],
    [
      'a body that ends early',
      (response) => {
        response.writeHead(200, { 'content-length': 100_000 });
        response.write('truth');
        setTimeout(() => response.destroy(), 20);
      },
      'STORE_UNAVAILABLE',
    ],
    ['an error of its own', (response) => response.writeHead(500).end(), 'STORE_UNAVAILABLE'],
    ['no answer', () => undefined, 'STORE_UNAVAILABLE'],
    [
      'a body that never goes on',
      (response) => response.writeHead(200, { 'content-length': 100_000 }).write('truth'),
      'STORE_UNAVAILABLE',
    ],
  ])('%s to a GET confirms nothing', async (_what, answer, code) => {
    liar.lie = () => false;
    await store.put(file.path, key, file);
    liar.lie = (request, response) => {
      if (!ofObject(request, 'GET')) return false;
      answer(response);
      return true;
    };
    const got = await store.ask(key).then(
      (said) => judge(file, said)?.code,
      (error: { code: string }) => error.code,
    );
    expect(got === 'NOT_CONFIRMED' ? 'CHECKSUM_MISMATCH' : got).toBe(code);
  });

  test('a copy that was said to be made and was not is no publication', async () => {
    liar.lie = () => false;
    await store.put(file.path, key, file);
    liar.lie = (request, response) => {
      if (request.headers['x-amz-copy-source'] === undefined) return false;
      response.end('<Error><Code>InternalError</Code><Message>after all</Message></Error>');
      return true;
    };
    expect(await codeOf(store.publish(key, 'never.root'))).toBe('STORE_UNAVAILABLE');
    liar.lie = (request, response) => {
      if (request.headers['x-amz-copy-source'] === undefined) return false;
      response.end('<CopyObjectResult><ETag>"0"</ETag></CopyObjectResult>');
      return true;
    };
    expect(await codeOf(store.publish(key, 'never.root'))).toBe('STORE_UNAVAILABLE');
    expect(liar.objects.has(path)).toBe(true);
  });

  test.each([
    '',
    '<html>OK</html>',
    '<ListBucketResult/>',
    'x',
    '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>',
  ])('a listing that is %j is none', async (text) => {
    liar.lie = (request, response) => {
      if (request.url?.includes('list-type=2') !== true) return false;
      response.end(text);
      return true;
    };
    const all = async () => {
      for await (const found of store.list()) expect(found).toBeUndefined();
    };
    expect(await codeOf(all())).toBe('STORE_UNAVAILABLE');
  });
});
