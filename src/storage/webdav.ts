import { hostname } from 'node:os';
import { dirname } from 'node:path/posix';
import type { Readable } from 'node:stream';
import { messageOf, SweepbookError } from '../errors.ts';
import type { Checksums } from './bytes.ts';
import type { Evidence, Expected, PutOptions, StoreAnswer, StoredFile } from './contract.ts';
import { changed, intoNewFile, unreadable, withSource } from './copy-file.ts';
import { hashStream } from './hash-stream.ts';
import { askOverHttp, type HttpAnswer, type HttpAsk } from './http.ts';
import { readSecret, type Secret } from './secrets.ts';
import { watched } from './stall-watch.ts';
import { copyDeadlineMs } from './store-settings.ts';
import { adler32Of, readMultistatus } from './webdav-answers.ts';

export interface DavSettings {
  readonly name: string;
  /** Of the collection that is the root of the store, without a slash at its end. */
  readonly url: string;
  readonly token?: Secret | undefined;
  readonly askSeconds: number;
  readonly leastBytesPerSecond: number;
}

export interface DavStat extends StoredFile {
  readonly isFile: boolean;
}

/** Some 70,000 files in one folder. */
const mostListingBytes = 32 * 1024 * 1024;

/**
 * A WebDAV door (dCache, EOS, StoRM, XRootD). Its checksums are asked for by Want-Digest (RFC 3230); only an adler32
 * of eight lower-case hexadecimal digits counts as said.
 */
export class WebDav {
  readonly settings: DavSettings;
  private readonly folders = new Set<string>();

  constructor(settings: DavSettings) {
    this.settings = settings;
  }

  urlOf(key: string, encode: (part: string) => string = encodeURIComponent): string {
    return `${this.settings.url}/${key.split('/').map(encode).join('/')}`;
  }

  ask(ask: Omit<HttpAsk, 'deadlineMs'> & { deadlineMs?: number }): Promise<HttpAnswer> {
    const { name, token, askSeconds } = this.settings;
    const headers: Record<string, string> = { ...ask.headers };
    if (token) headers['Authorization'] = `Bearer ${readSecret(name, 'token', token)}`;
    return askOverHttp(name, { deadlineMs: askSeconds * 1000, ...ask, headers });
  }

  async put(source: string, key: string, expected: Expected, options: PutOptions): Promise<void> {
    const { sizeBytes, adler32 } = expected;
    await this.makeFolders(dirname(key), options);
    await withSource(source, sizeBytes, async (file) => {
      const answer = await this.watched(sizeBytes, options, (signal, onSent) =>
        this.ask({
          method: 'PUT',
          url: this.urlOf(key),
          // Given beforehand, the store can refuse what it gets wrong.
          headers: { Digest: `adler32=${adler32}` },
          body: { file, sizeBytes },
          deadlineMs: copyDeadlineMs(sizeBytes, this.settings),
          signal,
          onSent,
        }),
      );
      if (answer.status === 507) {
        const { name } = this.settings;
        throw new SweepbookError('NO_SPACE', `store ${name} is full: make room`, { store: name });
      }
      if (![200, 201, 202, 204].includes(answer.status)) throw this.refused('PUT', key, answer);
    });
  }

  /** Broken off when no byte moves for as long as a question may take. */
  private watched<T>(
    sizeBytes: number,
    options: PutOptions,
    work: (signal: AbortSignal, onMoved: (bytes: number) => void) => Promise<T>,
  ): Promise<T> {
    const { name, askSeconds } = this.settings;
    let moved = 0;
    return watched(
      { store: name, sizeBytes, stallMs: askSeconds * 1000, options, moved: () => moved },
      (signal) => work(signal, (bytes) => void (moved = bytes)),
    );
  }

  /** Size and adler32 by the store's own word. */
  async head(key: string, options: PutOptions): Promise<StoreAnswer> {
    const askedAt = new Date().toISOString();
    const url = this.urlOf(key);
    // A folder has a size too, as XRootD answers HEAD, or no answer at all.
    const stat = await this.stat(key, options);
    if (!stat?.isFile) return absent(this.evidence(`PROPFIND ${url}`, askedAt, foundOf(stat)));
    const answer = await this.ask({
      method: 'HEAD',
      url,
      headers: { 'Want-Digest': 'adler32' },
      signal: options.signal,
    });
    const { 'content-length': length, digest, 'content-type': type } = answer.headers;
    const evidence = this.evidence(`HEAD ${url} (Want-Digest: adler32)`, askedAt, {
      status: answer.status,
      'content-length': length,
      digest,
      'content-type': type,
    });
    if (answer.status === 404 || answer.status === 410) return absent(evidence);
    if (answer.status !== 200) throw this.refused('HEAD', key, answer);
    return {
      isPresent: true,
      ...(length === String(stat.sizeBytes) ? { sizeBytes: stat.sizeBytes } : {}),
      ...adler32Of(digest),
      evidence,
    };
  }

  async readBack(key: string, options: PutOptions): Promise<StoreAnswer> {
    const askedAt = new Date().toISOString();
    const url = this.urlOf(key);
    const evidence = (answer: object) => this.evidence(`read back ${url}`, askedAt, answer);
    let sums: Checksums | undefined;
    const before = await this.stat(key, options);
    if (!before?.isFile) return absent(evidence(foundOf(before)));
    const answer = await this.get(key, before.sizeBytes, options, async (body, onMoved) => {
      sums = await hashStream(body, onMoved);
    });
    const { status } = answer;
    if (status === 404 || status === 410) return absent(evidence({ status }));
    if (status !== 200 || !sums) throw this.refused('GET', key, answer);
    const after = await this.stat(key, options);
    const isSame =
      after?.sizeBytes === sums.sizeBytes &&
      after.changedAt?.getTime() === before.changedAt?.getTime();
    // Written to meanwhile: then nothing has been said of the bytes.
    if (!isSame) return { isPresent: true, evidence: evidence({ status, ...sums, isSame }) };
    return { isPresent: true, ...sums, evidence: evidence({ status, ...sums }) };
  }

  /** Copies to a name of this host that is free, and to disk. */
  async fetch(key: string, target: string, expected: Expected, options: PutOptions): Promise<void> {
    const { name } = this.settings;
    const stat = await this.stat(key, options);
    if (!stat?.isFile) throw unreadable(`${name}:${key}`, 'no such file');
    if (stat.sizeBytes !== expected.sizeBytes) throw this.another(key, stat.sizeBytes, expected);
    await intoNewFile(target, async (to) => {
      let bytes = 0;
      const { status } = await this.get(key, stat.sizeBytes, options, async (body, onMoved) => {
        for await (const part of body) {
          await to.writeFile(part as Uint8Array);
          onMoved((bytes += (part as Uint8Array).length));
        }
      });
      if (status !== 200) throw unreadable(`${name}:${key}`, `HTTP ${status}`);
      if (bytes !== expected.sizeBytes) throw this.another(key, bytes, expected);
    });
  }

  private get(
    key: string,
    sizeBytes: number,
    options: PutOptions,
    take: (body: Readable, onMoved: (bytes: number) => void) => Promise<void>,
  ): Promise<HttpAnswer> {
    return this.watched(sizeBytes, options, (signal, onMoved) =>
      this.ask({
        method: 'GET',
        url: this.urlOf(key),
        headers: { 'Cache-Control': 'no-cache' },
        deadlineMs: copyDeadlineMs(sizeBytes, this.settings),
        signal,
        onBody: (body) => take(body, onMoved),
      }),
    );
  }

  private another(key: string, bytes: number, expected: Expected): SweepbookError {
    const place = `${this.settings.name}:${key}`;
    return changed(place, `it has ${bytes} bytes, registered are ${expected.sizeBytes}`);
  }

  /** What lies there; undefined = nothing, also below what is a file. */
  async stat(key: string, options: PutOptions): Promise<DavStat | undefined> {
    const answer = await this.propfind(this.urlOf(key), '0', options);
    if (answer.status === 404 || answer.status === 410) return undefined;
    if (answer.status !== 207) {
      const folder = dirname(key);
      const isBelowFile = folder !== '.' && (await this.stat(folder, options))?.isFile === true;
      if (isBelowFile) return undefined;
      throw this.refused('PROPFIND', key, answer);
    }
    const found = this.entriesOf(answer, key);
    const one = found.find((entry) => entry.key === key || entry.key === `${key}/`);
    if (!one) throw this.refused('PROPFIND', key, answer, 'the answer is about something else');
    return { ...one, isFile: one.key === key };
  }

  async sizeOf(key: string, options: PutOptions): Promise<number | undefined> {
    const stat = await this.stat(key, options);
    return stat?.isFile ? stat.sizeBytes : undefined;
  }

  async remove(key: string): Promise<void> {
    const answer = await this.ask({ method: 'DELETE', url: this.urlOf(key) });
    if (![200, 202, 204, 404, 410].includes(answer.status))
      throw this.refused('DELETE', key, answer);
  }

  /** What lies in a folder, folders with a slash at their end; undefined = it is not there. */
  async listFolder(folder: string, options: PutOptions): Promise<StoredFile[] | undefined> {
    const url = `${this.urlOf(folder).replace(/\/$/, '')}/`;
    const answer = await this.propfind(url, '1', options);
    if (answer.status === 404) return undefined;
    if (answer.status !== 207) throw this.refused('PROPFIND', folder, answer);
    const self = folder === '' ? '' : `${folder}/`;
    return this.entriesOf(answer, folder).filter(({ key }) => key !== self);
  }

  private propfind(url: string, depth: '0' | '1', options: PutOptions): Promise<HttpAnswer> {
    return this.ask({
      method: 'PROPFIND',
      url,
      headers: { Depth: depth, 'Content-Type': 'application/xml' },
      body: '<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getcontentlength/><getlastmodified/><resourcetype/></prop></propfind>',
      signal: options.signal,
      mostTextBytes: mostListingBytes,
    });
  }

  private entriesOf(answer: HttpAnswer, key: string): StoredFile[] {
    try {
      if (answer.isCut) throw new Error('it is too long');
      return readMultistatus(answer.text, new URL(`${this.settings.url}/`).pathname);
    } catch (error) {
      throw this.refused('PROPFIND', key, answer, messageOf(error));
    }
  }

  async makeFolders(folder: string, options: PutOptions): Promise<void> {
    if (folder === '.' || folder === '' || this.folders.has(folder)) return;
    await this.makeFolders(dirname(folder), options);
    await this.makeFolder(folder, options);
    if (this.folders.size > 10_000) this.folders.clear();
    this.folders.add(folder);
  }

  /** Also of the root (''), if the door lets us. */
  async makeFolder(folder: string, options: PutOptions): Promise<void> {
    const answer = await this.ask({
      method: 'MKCOL',
      url: `${this.urlOf(folder).replace(/\/$/, '')}/`,
      signal: options.signal,
    });
    // 405: it is there.
    if (![200, 201, 204, 301, 405].includes(answer.status))
      throw this.refused('MKCOL', folder, answer);
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

const absent = (evidence: Evidence): StoreAnswer => ({ isPresent: false, evidence });
const foundOf = (stat: DavStat | undefined) => ({ found: stat ? 'a folder' : 'nothing' });
