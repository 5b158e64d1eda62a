import { SweepbookError } from '../errors.ts';
import { hashFile } from './bytes.ts';
import type { Expected, PutOptions } from './contract.ts';
import { changed, intoNewFile, withSource } from './copy-file.ts';
import { positionOf, watched } from './stall-watch.ts';
import type { XrootdServer } from './xrootd-server.ts';
import { evidenceOf, failureOf, wordsOf, type XrootdAnswer } from './xrootd-tools.ts';

/** Runs a copy that is broken off when nothing moves; how far it is, is told or read off an open file. */
export function watchedCopy<T>(
  server: XrootdServer,
  sizeBytes: number,
  options: PutOptions,
  moved: number | (() => number),
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return watched(
    {
      store: server.tools.store,
      sizeBytes,
      stallMs: server.tools.askSeconds * 1000,
      options,
      moved: typeof moved === 'number' ? () => positionOf(moved) : moved,
    },
    work,
  );
}

/** Copies a source under a key that is free. The tool reads it from our open file: no name of this host is a URL. */
export async function copyIn(
  server: XrootdServer,
  source: string,
  key: string,
  expected: Expected,
  options: PutOptions,
): Promise<void> {
  const { sizeBytes } = expected;
  const sum =
    server.settings.checksum === 'none'
      ? []
      : ['--rm-bad-cksum', '--cksum', `adler32:${expected.adler32}`];
  let answer: XrootdAnswer | undefined;
  await withSource(source, sizeBytes, async (from) => {
    answer = await watchedCopy(server, sizeBytes, options, from.fd, (signal) =>
      server.copy(['--posc', ...sum, '-', server.urlOf(key)], {
        signal,
        stdin: from.fd,
        deadlineMs: server.deadlineMs(sizeBytes),
      }),
    );
  });
  if (answer && answer.code !== 0) throw await whyNotIn(server, source, expected, answer, options);
}

/** A server that refuses our adler32 has got other bytes: because the source has others, or on the way. */
async function whyNotIn(
  server: XrootdServer,
  source: string,
  expected: Expected,
  answer: XrootdAnswer,
  options: PutOptions,
): Promise<SweepbookError> {
  if (!/checksum error/i.test(answer.stderr)) return failureOf(server.tools, answer);
  const sums = await hashFile(source, options);
  if (sums.adler32 !== expected.adler32) {
    return changed(source, `its adler32 is ${sums.adler32}, registered is ${expected.adler32}`);
  }
  const { store } = server.tools;
  return new SweepbookError(
    'NOT_CONFIRMED',
    `store ${store} took other bytes than were sent: ${wordsOf(answer)}`,
    { store, evidence: evidenceOf([answer]) },
  );
}

/** Copies what is stored to a name of this host that is free, and to disk. */
export async function copyOut(
  server: XrootdServer,
  key: string,
  storedBytes: number,
  target: string,
  expected: Expected,
  options: PutOptions,
): Promise<void> {
  const { sizeBytes } = expected;
  if (storedBytes !== sizeBytes) throw another(server, key, storedBytes, expected);
  await intoNewFile(target, async (to) => {
    const answer = await watchedCopy(server, sizeBytes, options, to.fd, (signal) =>
      server.copy([server.urlOf(key), '-'], {
        signal,
        stdout: to.fd,
        deadlineMs: server.deadlineMs(sizeBytes),
      }),
    );
    if (answer.code !== 0) throw whyNotOut(server, target, answer);
    const { size } = await to.stat();
    if (size !== sizeBytes) throw another(server, key, size, expected);
  });
}

function whyNotOut(server: XrootdServer, target: string, answer: XrootdAnswer): SweepbookError {
  if (answer.serverCode === undefined && /no space left|quota exceeded/i.test(answer.stderr)) {
    const facts = { path: target };
    return new SweepbookError('NO_SPACE', `the disk of ${target} is full: make room`, facts);
  }
  return failureOf(server.tools, answer);
}

function another(
  server: XrootdServer,
  key: string,
  size: number,
  expected: Expected,
): SweepbookError {
  const { store } = server.tools;
  return new SweepbookError(
    'SOURCE_CHANGED',
    `store ${store}: ${key} has ${size} bytes, registered are ${expected.sizeBytes}`,
    { store, key },
  );
}
