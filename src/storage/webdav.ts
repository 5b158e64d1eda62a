import { createWriteStream } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path/posix';
import { pipeline } from 'node:stream/promises';
import { messageOf, SweepbookError } from '../errors.ts';
import type { Checksums } from './bytes.ts';
import type { Evidence, Expected, PutOptions, StoreAnswer, StoredFile } from './contract.ts';
import { changed, unreadable } from './copy-file.ts';
import { hashStream } from './hash-stream.ts';
import { askOverHttp, type HttpAnswer, type HttpAsk } from './http.ts';
import { keyTaken } from './key-taken.ts';
import { readSecret, type Secret } from './secrets.ts';
import { copyDeadlineMs } from './store-settings.ts';
import { readMultistatus } from './webdav-listing.ts';

export interface DavSettings {
  readonly name: string;
  /** Of the collection that is the root of the store, without a slash at its end. */
  readonly url: string;
  readonly token?: Secret | undefined;
  readonly askSeconds: number;
  readonly leastBytesPerSecond: number;
}

/**
 * A WebDAV door (dCache, EOS, StoRM, XRootD). Its checksums are asked for by Want-Digest (RFC 3230); only an adler32
 * of eight lower-case hexadecimal digits counts as said.
 */
export class WebDav {
  private readonly settings: DavSettings;
  private readonly folders = new Set<string>();

  constructor(settings: DavSettings) {
    this.settings = settings;
  }

  urlOf(key: string): string {
    return `${this.settings.url}/${key.split('/').map(encodeURIComponent).join('/')}`;
  }

  ask(ask: Omit<HttpAsk, 'deadlineMs'> & { deadlineMs?: number }): Promise<HttpAnswer> {
    const { name, token, askSeconds } = this.settings;
    const headers: Record<string, string> = { ...ask.headers };
    if (token) headers['authorization'] = `Bearer ${readSecret(name, 'token', token)}`;
    return askOverHttp(name, { deadlineMs: askSeconds * 1000, ...ask, headers });
  }

  async put(source: string, key: string, expected: Expected, options: PutOptions): Promise<void> {
    await this.makeFolders(dirname(key), options);
    const answer = await this.ask({
      method: 'PUT',
      url: this.urlOf(key),
      // Given beforehand, the store can refuse what it gets wrong.
      headers: { digest: `adler32=${expected.adler32}` },
      body: { path: source, sizeBytes: expected.sizeBytes },
      deadlineMs: copyDeadlineMs(expected.sizeBytes, this.settings),
      signal: options.signal,
      ...(options.onProgress ? { onSent: options.onProgress } : {}),
    });
    if (answer.status === 507) {
      const { name } = this.settings;
      throw new SweepbookError('NO_SPACE', `store ${name} is full: make room`, { store: name });
    }
    if (![200, 201, 202, 204].includes(answer.status)) throw this.refused('PUT', key, answer);
  }

  /** Size and adler32 by the store's own word. */
  async head(key: string, options: PutOptions): Promise<StoreAnswer> {
    const askedAt = new Date().toISOString();
    const url = this.urlOf(key);
    const answer = await this.ask({
      method: 'HEAD',
      url,
      headers: { 'want-digest': 'adler32' },
      signal: options.signal,
    });
    const { 'content-length': length, digest, 'content-type': type } = answer.headers;
    const evidence = this.evidence(`HEAD ${url} (Want-Digest: adler32)`, askedAt, {
      status: answer.status,
      'content-length': length,
      digest,
      'content-type': type,
    });
    if (answer.status === 404 || answer.status === 410) return { isPresent: false, evidence };
    if (answer.status !== 200) throw this.refused('HEAD', key, answer);
    return {
      isPresent: true,
      ...(/^\d{1,16}$/.test(length ?? '') ? { sizeBytes: Number(length) } : {}),
      ...adler32Of(digest),
      evidence,
    };
  }

  async readBack(key: string, options: PutOptions): Promise<StoreAnswer> {
    const askedAt = new Date().toISOString();
    const url = this.urlOf(key);
    let sums: Checksums | undefined;
    const size = await this.sizeOf(key, options);
    const answer = await this.ask({
      method: 'GET',
      url,
      headers: { 'cache-control': 'no-cache' },
      deadlineMs: copyDeadlineMs(size ?? 0, this.settings),
      signal: options.signal,
      onBody: async (body) => void (sums = await hashStream(body, options.onProgress)),
    });
    const evidence = this.evidence(`read back ${url}`, askedAt, { status: answer.status, ...sums });
    if (answer.status === 404 || answer.status === 410) return { isPresent: false, evidence };
    if (answer.status !== 200 || !sums) throw this.refused('GET', key, answer);
    return { isPresent: true, ...sums, evidence };
  }

  async fetch(key: string, target: string, expected: Expected, options: PutOptions): Promise<void> {
    let bytes = 0;
    const answer = await this.ask({
      method: 'GET',
      url: this.urlOf(key),
      deadlineMs: copyDeadlineMs(expected.sizeBytes, this.settings),
      signal: options.signal,
      onBody: async (body) => {
        body.on('data', (part: Buffer) => {
          bytes += part.length;
          options.onProgress?.(bytes);
        });
        await pipeline(body, createWriteStream(target, { flags: 'wx', flush: true }));
      },
    });
    const place = `${this.settings.name}:${key}`;
    if (answer.status !== 200) throw unreadable(place, `HTTP ${answer.status}`);
    if (bytes !== expected.sizeBytes) {
      throw changed(place, `it has ${bytes} bytes, registered are ${expected.sizeBytes}`);
    }
  }

  /** MOVE without overwriting; what was moved before a crash counts as done. */
  async move(from: string, to: string): Promise<void> {
    await this.makeFolders(dirname(to), {});
    const answer = await this.ask({
      method: 'MOVE',
      url: this.urlOf(from),
      headers: { destination: this.urlOf(to), overwrite: 'F' },
    });
    if (answer.status === 201) return;
    const { name } = this.settings;
    if ([204, 405, 409, 412, 423].includes(answer.status) || answer.status === 404) {
      if ((await this.sizeOf(to, {})) !== undefined) {
        if (answer.status === 204) {
          throw keyTaken(name, to, 'the store replaced it although it was asked not to');
        }
        throw keyTaken(name, to, 'another file is there');
      }
    }
    throw this.refused('MOVE', from, answer);
  }

  async sizeOf(key: string, options: PutOptions): Promise<number | undefined> {
    const answer = await this.ask({ method: 'HEAD', url: this.urlOf(key), signal: options.signal });
    if (answer.status === 404 || answer.status === 410) return undefined;
    const length = answer.headers['content-length'];
    if (answer.status !== 200 || !/^\d{1,16}$/.test(length ?? ''))
      throw this.refused('HEAD', key, answer);
    return Number(length);
  }

  async remove(key: string): Promise<void> {
    const answer = await this.ask({ method: 'DELETE', url: this.urlOf(key) });
    if (![200, 202, 204, 404, 410].includes(answer.status))
      throw this.refused('DELETE', key, answer);
  }

  /** What lies in a folder; folders end with a slash. A folder that is not there is empty. */
  async listFolder(folder: string, options: PutOptions): Promise<StoredFile[]> {
    const answer = await this.ask({
      method: 'PROPFIND',
      url: `${this.urlOf(folder).replace(/\/$/, '')}/`,
      headers: { depth: '1', 'content-type': 'application/xml' },
      body: '<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getcontentlength/><getlastmodified/><resourcetype/></prop></propfind>',
      signal: options.signal,
    });
    if (answer.status === 404) return [];
    if (answer.status !== 207 || answer.isCut) throw this.refused('PROPFIND', folder, answer);
    try {
      return readMultistatus(answer.text, new URL(`${this.settings.url}/`).pathname, folder);
    } catch (error) {
      throw this.refused('PROPFIND', folder, answer, messageOf(error));
    }
  }

  async makeFolders(folder: string, options: PutOptions): Promise<void> {
    if (folder === '.' || folder === '' || this.folders.has(folder)) return;
    await this.makeFolders(dirname(folder), options);
    const answer = await this.ask({
      method: 'MKCOL',
      url: `${this.urlOf(folder)}/`,
      signal: options.signal,
    });
    // 405: it is there.
    if (![200, 201, 204, 301, 405].includes(answer.status))
      throw this.refused('MKCOL', folder, answer);
    if (this.folders.size > 10_000) this.folders.clear();
    this.folders.add(folder);
  }

  evidence(asked: string, askedAt: string, answer: unknown): Evidence {
    return { asked, answer: JSON.stringify(answer), askedAt, host: hostname() };
  }

  refused(method: string, key: string, answer: HttpAnswer, why?: string): SweepbookError {
    const { name } = this.settings;
    const told = why ?? (answer.text.replace(/\s+/g, ' ').slice(0, 200) || 'no reason given');
    return new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${name}: ${method} ${key} was answered with HTTP ${answer.status} (${told})`,
      { store: name, status: answer.status },
    );
  }
}

/** Digest: adler32=39cad0bf,md5=…; anything but eight lower-case digits, or two answers, is not one. */
function adler32Of(digest: string | string[] | undefined): { adler32?: string } {
  const said = [digest ?? []]
    .flat()
    .flatMap((line) => line.split(','))
    .map((part) => part.trim())
    .filter((part) => /^adler32=/i.test(part))
    .map((part) => part.slice('adler32='.length));
  const [one, ...more] = said;
  return one !== undefined && more.length === 0 && /^[0-9a-f]{8}$/.test(one)
    ? { adler32: one }
    : {};
}
