import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { timeOf } from '../api/scalars.ts';
import { badInput, shown, SweepbookError } from '../errors.ts';
import { packingOf } from '../formats/packed.ts';
import { checkDescription } from '../files/files.rules.ts';
import { demandOrder } from '../runs/runs.rules.ts';
import {
  lineForms,
  manifestLimits,
  manifestVersion,
  type ManifestEnd,
  type ManifestFile,
  type ManifestHead,
  type ManifestRun,
} from './manifest.ts';

/** A line that has been read and is right by itself and beside those before it. */
export type ReadLine =
  | { readonly kind: 'head'; readonly line: number; readonly head: ManifestHead }
  | { readonly kind: 'run'; readonly line: number; readonly run: ManifestRun }
  | { readonly kind: 'file'; readonly line: number; readonly file: ManifestFile }
  | { readonly kind: 'end'; readonly line: number; readonly end: ManifestEnd };

interface RawLine {
  readonly line: number;
  readonly bytes: Buffer;
}

/** The refusal with the number of the line that it is about. */
function atLine(line: number, error: unknown): SweepbookError {
  if (!(error instanceof SweepbookError)) throw error;
  return new SweepbookError(
    error.code,
    `line ${line}: ${error.message}`,
    { ...error.facts, line },
    { cause: error },
  );
}

const refuse = (message: string, facts: Record<string, unknown> = {}) =>
  new SweepbookError('BAD_USER_INPUT', message, facts);

/** Packed or not is told by the first bytes, whatever the name of the file says. */
async function unpacked(path: string): Promise<Readable> {
  const handle = await open(path, 'r');
  const magic = Buffer.alloc(4);
  try {
    await handle.read(magic, 0, 4, 0);
  } finally {
    await handle.close();
  }
  const source = createReadStream(path);
  const packing = packingOf(magic);
  if (!packing) return source;
  const unpack = packing === 'gzip' ? createGunzip() : createZstdDecompress();
  source.once('error', (error) => unpack.destroy(error));
  unpack.once('close', () => source.destroy());
  return source.pipe(unpack);
}

async function* rawLines(source: Readable): AsyncGenerator<RawLine, void, void> {
  let line = 0;
  let total = 0;
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    total += chunk.length;
    if (total > manifestLimits.bytes) {
      throw refuse(
        `a manifest has at most ${manifestLimits.bytes} bytes: export the dataset in parts`,
      );
    }
    let from = 0;
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at + 1));
      const bytes = parts.length === 1 ? (parts[0] ?? chunk) : Buffer.concat(parts);
      from = at + 1;
      parts = [];
      length = 0;
      if (bytes.length > manifestLimits.lineBytes) throw tooLong(line + 1);
      yield { line: ++line, bytes };
    }
    if (from === chunk.length) continue;
    parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > manifestLimits.lineBytes) throw tooLong(line + 1);
  }
  if (length > 0) throw atLine(line + 1, refuse('it has no end: the manifest was cut off'));
}

const tooLong = (line: number) =>
  atLine(line, refuse(`a line has at most ${manifestLimits.lineBytes} bytes`));

const utf8 = new TextDecoder('utf-8', { fatal: true });

function parse(bytes: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch {
    throw refuse(`it is no JSON in UTF-8: ${shown(bytes.toString('latin1', 0, 80))}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw refuse('it is no JSON object');
  }
  return value as Record<string, unknown>;
}

function formed<Kind extends keyof typeof lineForms>(
  kind: Kind,
  value: unknown,
): ReturnType<(typeof lineForms)[Kind]['parse']> {
  const read = lineForms[kind].safeParse(value);
  if (read.success) return read.data as ReturnType<(typeof lineForms)[Kind]['parse']>;
  const issue = read.error.issues[0];
  const field = issue?.path.join('.') || 'line';
  throw new SweepbookError('BAD_USER_INPUT', `${field}: ${issue?.message ?? 'wrong'}`, { field });
}

const keyOf = (run: { source: string; number: number }) => `${run.source} ${run.number}`;
const inOrder = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b)) < 0;

/** Reads lines one after the other; what it must remember are the runs, and no file. */
class ManifestChecker {
  private readonly digest = createHash('sha256');
  private readonly runs = new Set<string>();
  private head: ManifestHead | undefined;
  private lastRun: ManifestRun | undefined;
  private lastLfn: string | undefined;
  private files = 0;
  private sizeBytes = 0;
  private eventCount = 0;
  isOver = false;

  take({ line, bytes }: RawLine): ReadLine {
    if (this.isOver) throw refuse('something stands behind the last line');
    const value = parse(bytes);
    if (line === 1) {
      this.digest.update(bytes);
      return { kind: 'head', line, head: this.takeHead(value) };
    }
    if ('end' in value) return { kind: 'end', line, end: this.takeEnd(value) };
    this.digest.update(bytes);
    if ('run' in value) return { kind: 'run', line, run: this.takeRun(value) };
    if ('file' in value) return { kind: 'file', line, file: this.takeFile(value) };
    throw refuse('a line tells a run, a file or the end');
  }

  private takeHead(value: Record<string, unknown>): ManifestHead {
    if (value['sweepbook'] !== 'manifest') throw refuse('this is no manifest of Sweepbook');
    if (value['version'] !== manifestVersion) {
      throw badInput(
        'version',
        value['version'],
        `this program reads manifests of version ${manifestVersion}: update it, or export again`,
      );
    }
    this.head = formed('sweepbook', value);
    return this.head;
  }

  private takeRun(value: unknown): ManifestRun {
    const { run } = formed('run', value);
    if (this.lastLfn !== undefined) throw refuse('runs stand before the files');
    const last = this.lastRun;
    if (
      last &&
      !(last.source < run.source || (last.source === run.source && last.number < run.number))
    ) {
      throw new SweepbookError('DUPLICATE', `run ${run.number} stands twice, or out of order`, {
        number: run.number,
      });
    }
    if (this.runs.size >= manifestLimits.runs) throw refuse(`at most ${manifestLimits.runs} runs`);
    // As times: with and without parts of a second, their texts are ordered otherwise.
    demandOrder(timeOf(run.startedAt ?? '') ?? null, timeOf(run.endedAt ?? '') ?? null);
    this.runs.add(keyOf(run));
    this.lastRun = run;
    return run;
  }

  private takeFile(value: unknown): ManifestFile {
    const { file } = formed('file', value);
    if (file.kind !== 'MERGED_FILE') {
      throw new SweepbookError(
        'NOT_MERGED',
        `${file.lfn} is a run file: only merged files are imported, merge it at its site`,
        { lfn: file.lfn },
      );
    }
    checkDescription({ ...file, parents: null });
    if (new Set(file.runs.map(keyOf)).size < file.runs.length) {
      throw new SweepbookError('DUPLICATE', `${file.lfn} tells a run twice`, { lfn: file.lfn });
    }
    if (this.lastLfn !== undefined && !inOrder(this.lastLfn, file.lfn)) {
      throw new SweepbookError('DUPLICATE', `${file.lfn} stands twice, or out of order`, {
        lfn: file.lfn,
      });
    }
    const stranger = file.runs.find((run) => !this.runs.has(keyOf(run)));
    if (stranger) {
      throw new SweepbookError(
        'NOT_FOUND',
        `${file.lfn} holds run ${stranger.number} (${stranger.source}), which the manifest does not tell`,
        { lfn: file.lfn, number: stranger.number },
      );
    }
    if (++this.files > manifestLimits.files) throw refuse(`at most ${manifestLimits.files} files`);
    this.lastLfn = file.lfn;
    this.sizeBytes += file.sizeBytes;
    this.eventCount += file.eventCount ?? 0;
    return file;
  }

  private takeEnd(value: unknown): ManifestEnd {
    const { end } = formed('end', value);
    this.isOver = true;
    const digest = this.digest.digest('hex');
    if (end.sha256 !== digest) {
      throw new SweepbookError(
        'CHECKSUM_MISMATCH',
        `the manifest is not what was written: its lines have the digest ${digest}, its end says ${end.sha256}`,
        { expected: end.sha256, found: digest },
      );
    }
    const dataset = this.head?.dataset;
    const told = [
      ['files', this.files, end.files],
      ['runs', this.runs.size, end.runs],
      ['dataset.fileCount', this.files, dataset?.fileCount],
      ['dataset.sizeBytes', this.sizeBytes, dataset?.sizeBytes],
      ['dataset.eventCount', this.eventCount, dataset?.eventCount],
      ['dataset.runCount', this.runs.size, dataset?.runCount],
    ] as const;
    const wrong = told.find(([, found, said]) => found !== said);
    if (wrong) {
      const [field, found, said] = wrong;
      throw refuse(`${field} is told as ${said}, and the lines have ${found}`, {
        field,
        found,
        told: said,
      });
    }
    return end;
  }
}

/**
 * The lines of a manifest on this disk, packed (gzip, zstd) or not. Memory does not grow with its files. Refusals
 * carry the line: BAD_USER_INPUT, NOT_MERGED, DUPLICATE, NOT_FOUND, CHECKSUM_MISMATCH.
 */
export async function* readManifest(path: string): AsyncGenerator<ReadLine, void, void> {
  const checker = new ManifestChecker();
  const source = await unpacked(path);
  let line = 0;
  try {
    for await (const raw of rawLines(source)) {
      ({ line } = raw);
      let read: ReadLine;
      try {
        read = checker.take(raw);
      } catch (error) {
        throw atLine(line, error);
      }
      yield read;
    }
  } catch (error) {
    if (error instanceof SweepbookError) throw error;
    throw isOfZlib(error)
      ? refuse('it cannot be unpacked: it was damaged or cut off', { line })
      : error;
  } finally {
    source.destroy();
  }
  if (!checker.isOver) {
    throw refuse(
      `it ends after line ${line} without its last line: it was cut off, export it again`,
      {
        line,
      },
    );
  }
}

const isOfZlib = (error: unknown) =>
  error instanceof Error && 'code' in error && /^(Z_|ZSTD_)/.test(String(error.code));
