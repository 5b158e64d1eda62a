import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { adler32 } from 'hash-wasm';

type Reply = (status: number, headers?: Record<string, string>, body?: string) => void;

interface Entry {
  path: string;
  locality?: string;
  error?: string;
}

/** How the door may misbehave; each one as sites have seen it. */
export interface Lies {
  /** Instead of what it would have answered to HEAD. */
  head?: (honest: Record<string, string>) => Record<string, string> | { status: number };
  /** Instead of the bytes that came. */
  stored?: (bytes: Buffer) => Buffer;
  /** PUT is answered with 201, and nothing is kept. */
  forgets?: boolean;
  /** MOVE is answered with 201, and the file goes to the name as it is encoded. */
  moves?: 'elsewhere';
  /** Instead of the answer to PROPFIND. */
  found?: (honest: string) => string;
  deletesNothing?: boolean;
  /** Instead of the answer of archiveinfo. */
  archiveInfo?: (honest: Entry[]) => unknown;
  archiveStatus?: number;
  /** Instead of the answer to a new stage request. */
  stageBegun?: (honest: { requestId: string }) => unknown;
  /** Instead of the files in the answer of a stage request's progress. */
  staged?: (honest: StagedEntry[]) => unknown;
  /** Instead of that whole answer. */
  stagedAnswer?: (honest: { id: string; files: unknown }) => unknown;
  stagedStatus?: number;
  /** Instead of the bytes that lie there. */
  served?: (bytes: Buffer) => Buffer;
  /** Half of the file comes, and then nothing more. */
  stalls?: (path: string) => boolean;
  /** Refuses stage requests, as RFC 7807 has it. */
  stageStatus?: number;
}

export interface StagedEntry {
  path: string;
  state?: string;
  onDisk?: boolean;
  error?: string;
}

function tell(reply: Reply, status: number, body: unknown): void {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  reply(status, { 'content-type': type }, typeof body === 'string' ? body : JSON.stringify(body));
}

async function bodyOf<T>(request: IncomingMessage): Promise<T> {
  const parts: Buffer[] = [];
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString('utf8')) as T;
}

/**
 * A WebDAV door with a WLCG tape REST API v1 over a folder, as EOS with CTA answers, on loopback. Files are on disk
 * until `archive` is told to take them.
 */
export async function startTapeSite(folder: string) {
  const root = join(folder, 'tape');
  mkdirSync(root, { recursive: true });
  const onTape = new Set<string>();
  const lost = new Set<string>();
  const refused = new Map<string, string>();
  const offline = new Set<string>();
  const requests = new Map<string, Map<string, StagedEntry>>();
  const asked: string[] = [];
  const state = { lies: {} as Lies, isDown: false, token: undefined as string | undefined };
  const pathOf = (url: string) => decodeURIComponent(new URL(url, 'http://x').pathname);
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500).end(String(error));
      else response.destroy();
    });
  });
  const localityOf = (path: string): Entry => {
    const reason = refused.get(path);
    if (reason !== undefined) return { path, error: reason };
    if (lost.has(path)) return { path, locality: 'LOST' };
    const file = join(root, path.replace(/^\/store/, ''));
    if (!existsSync(file)) return { path, error: 'USER ERROR: file does not exist' };
    if (offline.has(path)) return { path, locality: 'TAPE' };
    return { path, locality: onTape.has(path) ? 'DISK_AND_TAPE' : 'DISK' };
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = pathOf(request.url ?? '/');
    asked.push(`${request.method} ${path}`);
    const reply = (status: number, headers: Record<string, string> = {}, body = '') =>
      void response.writeHead(status, headers).end(body);
    if (state.isDown) return void request.socket.destroy();
    if (state.token !== undefined && request.headers.authorization !== `Bearer ${state.token}`) {
      return reply(403);
    }
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    if (path === '/.well-known/wlcg-tape-rest-api') {
      const endpoints = [{ uri: `${address}/api/v1`, version: 'v1', metadata: {} }];
      return reply(200, {}, JSON.stringify({ sitename: 'test', endpoints }));
    }
    if (path === '/api/v1/archiveinfo') return archiveInfo(request, reply);
    if (/^\/api\/v1\/(stage|release)/.test(path)) return stage(request, path, reply);
    if (!path.startsWith('/store')) return reply(404);
    await dav(request, response, path, reply);
  }

  async function archiveInfo(request: IncomingMessage, reply: Reply): Promise<void> {
    const { paths } = await bodyOf<{ paths: string[] }>(request);
    // As the standard has it: in any order.
    const honest = paths.map(localityOf).toReversed();
    const { archiveInfo: lie, archiveStatus } = state.lies;
    tell(reply, archiveStatus ?? 200, lie ? lie(honest) : honest);
  }

  async function stage(request: IncomingMessage, path: string, reply: Reply): Promise<void> {
    const { stageStatus, stageBegun, staged, stagedAnswer, stagedStatus } = state.lies;
    if (stageStatus !== undefined) {
      return tell(reply, stageStatus, { title: 'The robot is on strike', detail: 'come back' });
    }
    const [, , , verb, id = '', step] = path.split('/');
    if (request.method === 'POST' && verb === 'stage' && id === '') {
      const { files } = await bodyOf<{ files: { path: string }[] }>(request);
      const requestId = `req-${requests.size + 1}`;
      const entries = files.map(({ path: of }): [string, StagedEntry] => [
        of,
        { path: of, state: offline.has(of) ? 'STARTED' : 'COMPLETED' },
      ]);
      requests.set(requestId, new Map(entries));
      return tell(reply, 201, stageBegun?.({ requestId }) ?? { requestId });
    }
    const known = requests.get(id);
    if (!known) return tell(reply, 404, { status: 404, title: 'no such request' });
    if (request.method === 'GET') {
      const honest = [...known.values()].toReversed();
      const body = { id, createdAt: 0, files: staged?.(honest) ?? honest };
      return tell(reply, stagedStatus ?? 200, stagedAnswer?.(body) ?? body);
    }
    const { paths } = await bodyOf<{ paths: string[] }>(request);
    for (const of of paths) {
      if (step === 'cancel') known.set(of, { path: of, state: 'CANCELLED' });
    }
    return reply(200);
  }

  async function dav(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    reply: Reply,
  ): Promise<void> {
    const file = join(root, path.replace(/^\/store/, ''));
    const stat = existsSync(file) ? statSync(file) : undefined;
    switch (request.method ?? '') {
      case 'PUT': {
        if (!existsSync(dirname(file))) return reply(409);
        await pipeline(request, createWriteStream(file));
        const { stored, forgets } = state.lies;
        if (stored) {
          writeFileSync(file, stored(readFileSync(file)));
        }
        if (forgets) rmSync(file);
        return reply(201);
      }
      case 'HEAD': {
        if (!stat?.isFile()) return reply(404);
        const headers: Record<string, string> = { 'content-length': String(stat.size) };
        if (request.headers['want-digest'] !== undefined) {
          headers['digest'] = `adler32=${await adler32(readFileSync(file))}`;
        }
        const told = state.lies.head?.(headers) ?? headers;
        if ('status' in told && typeof told.status === 'number') return reply(told.status);
        return reply(200, told as Record<string, string>);
      }
      case 'GET':
        if (!stat?.isFile()) return reply(404);
        if (offline.has(path)) return reply(409);
        if (state.lies.served) return void response.end(state.lies.served(readFileSync(file)));
        response.writeHead(200, { 'content-length': String(stat.size) });
        if (state.lies.stalls?.(path)) {
          return void response.write(readFileSync(file).subarray(0, stat.size / 2));
        }
        await pipeline(createReadStream(file), response);
        return;
      case 'DELETE':
        if (!stat) return reply(404);
        if (!state.lies.deletesNothing) rmSync(file, { recursive: true });
        return reply(204);
      case 'MKCOL':
        if (stat) return reply(405);
        if (!existsSync(dirname(file))) return reply(409);
        mkdirSync(file);
        return reply(201);
      case 'MOVE':
        return move(request, file, reply);
      case 'PROPFIND':
        return propfind(file, path, request.headers.depth === '0', reply);
      default:
        return reply(405);
    }
  }

  function move(request: IncomingMessage, file: string, reply: Reply): void {
    const stat = existsSync(file) ? statSync(file) : undefined;
    const to = join(root, pathOf(String(request.headers['destination'])).replace(/^\/store/, ''));
    if (!stat) return reply(404);
    if (existsSync(to)) return reply(412);
    renameSync(file, state.lies.moves ? `${to}.${state.lies.moves}` : to);
    return reply(201);
  }

  function propfind(file: string, path: string, isAlone: boolean, reply: Reply): void {
    if (!existsSync(file)) return reply(404);
    const below = isAlone || !statSync(file).isDirectory() ? [] : readdirSync(file);
    const entries = ['', ...below].map((name) => {
      const inner = statSync(join(file, name));
      const href = `${path.replace(/\/$/, '')}${name === '' ? '' : `/${name}`}`
        .split('/')
        .map(encodeURIComponent)
        .join('/');
      const kind = inner.isDirectory()
        ? '<D:resourcetype><D:collection/></D:resourcetype>'
        : `<D:resourcetype/><D:getcontentlength>${inner.size}</D:getcontentlength>`;
      return `<D:response><D:href>${href}${inner.isDirectory() ? '/' : ''}</D:href><D:propstat><D:prop>${kind}<D:getlastmodified>${inner.mtime.toUTCString()}</D:getlastmodified></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>`;
    });
    const xml = `<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">${entries.join('')}</D:multistatus>`;
    return reply(207, { 'content-type': 'application/xml' }, state.lies.found?.(xml) ?? xml);
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/store`,
    root,
    asked,
    state,
    /** The tape robot has been here. */
    archive(key: string): void {
      onTape.add(`/store/${key}`);
    },
    /** Its disk copy is gone: it must be staged before it can be read. */
    purge(key: string): void {
      onTape.add(`/store/${key}`);
      offline.add(`/store/${key}`);
    },
    /** The robot has brought it, for whoever asked. */
    bring(key: string): void {
      const path = `/store/${key}`;
      offline.delete(path);
      for (const request of requests.values()) {
        if (request.has(path)) request.set(path, { path, state: 'COMPLETED' });
      }
    },
    /** Forgets all stage requests, as after a restart of the door. */
    forget(): void {
      requests.clear();
    },
    lose(key: string): void {
      lost.add(`/store/${key}`);
    },
    refuse(key: string, reason: string): void {
      refused.set(`/store/${key}`, reason);
    },
    sha256(key: string): string {
      return createHash('sha256')
        .update(readFileSync(join(root, key)))
        .digest('hex');
    },
    async close(): Promise<void> {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
