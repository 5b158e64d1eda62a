import { existsSync } from 'node:fs';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf, systemCode } from '../errors.ts';
import { pause } from './client.ts';
import type { Context } from './command.ts';
import { CliError, exitCode, isTransient } from './exit-codes.ts';
import { complain } from './print.ts';
import { startProgress } from './progress.ts';
import { readRecords } from './records.ts';
import { requestBackups } from './request-backup.ts';
import type { RegisteredFile } from './register.ts';

/**
 * Copies files into the mass store ourselves, where no worker can read them; the server then
 * asks the store. Returns the faults (said on stderr already); what has none is confirmed, or
 * was taken on by a worker meanwhile.
 */
export async function copyDirectly(
  context: Context,
  files: readonly RegisteredFile[],
  store: string | undefined,
): Promise<Map<string, CliError>> {
  await demandStoreHere(context, store);
  const lfns = files.map((file) => file.lfn);
  const requested = await requestBackups(context, lfns, store, true);
  const faults = new Map(requested.faults);
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const progress = startProgress('copying', totalBytes);
  let before = 0;
  try {
    for (const file of files) {
      const upload = requested.uploads.get(file.lfn);
      if (upload !== undefined) {
        const show = (bytes: number, what: string) => progress.update(before + bytes, what);
        const fault = await copyOne(context, file, upload.path, upload.store, show);
        if (fault !== undefined) {
          complain(fault.message);
          faults.set(file.lfn, fault);
        }
      }
      before += file.sizeBytes;
    }
  } finally {
    progress.stop();
  }
  // From our copy workers make the others that the files owe, now and not when we have fallen silent.
  const copied = lfns.filter((lfn) => !faults.has(lfn));
  if (store === undefined) await requestBackups(context, copied, store, false);
  return faults;
}

/** A store that is not mounted here must not be made up as an empty folder. */
async function demandStoreHere({ client }: Context, name: string | undefined): Promise<void> {
  const query = 'query Stores { massStores { name root isDefault } }';
  const { massStores } = await client.call<{
    massStores: { name: string; root: string | null; isDefault: boolean }[];
  }>(query);
  const store = massStores.find((each) =>
    name === undefined ? each.isDefault : each.name === name,
  );
  if (!store) {
    const known = massStores.map((each) => each.name).join(', ');
    throw new CliError(
      exitCode.notFound,
      `no mass store ${name ?? '(default)'}: there are ${known}`,
    );
  }
  if (store.root === null || existsSync(store.root)) return;
  throw new CliError(
    exitCode.failed,
    `mass store ${store.name} (${store.root}) is not on this host: mount it, or leave out --direct`,
  );
}

type Show = (bytes: number, what: string) => void;

async function copyOne(
  context: Context,
  file: RegisteredFile,
  target: string,
  store: string,
  show: Show,
): Promise<CliError | undefined> {
  try {
    await copyFile(file, target, context.signal, (bytes) => show(bytes, file.given));
    show(file.sizeBytes, `${file.given}: the store reads it back`);
    await recordBackup(context, file.lfn, store, target);
    return undefined;
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof CliError)) return notCopied(file, target, error);
    if (isTransient(error)) throw error;
    return error.message.includes(file.lfn)
      ? error
      : new CliError(error.exit, `${file.lfn}: ${error.message}`, error.code);
  }
}

function notCopied(file: RegisteredFile, target: string, error: unknown): CliError {
  const why = systemCode(error) ?? messageOf(error);
  const wayOut =
    why === 'ENOSPC' || why === 'EDQUOT'
      ? 'make room in the store, then run the same command again'
      : 'check the permissions, or leave out --direct so that a worker copies it';
  return new CliError(
    exitCode.failed,
    `${file.given} could not be copied to ${target} (${why}): ${wayOut}`,
  );
}

const chunkBytes = 4 * 1024 * 1024;

async function copyFile(
  file: RegisteredFile,
  target: string,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  // What lies there is from a try of ours that was cut off.
  await rm(target, { force: true });
  const from = await open(file.path, 'r');
  try {
    const to = await open(target, 'wx', 0o644);
    try {
      const doneBytes = await copyBytes(from, to, signal, onProgress);
      if (doneBytes !== file.hashed.sizeBytes) {
        throw new CliError(
          exitCode.failed,
          `${file.given} changed after it was registered: register the new content under a new LFN`,
        );
      }
      await to.sync();
    } finally {
      await to.close();
    }
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  } finally {
    await from.close();
  }
}

async function copyBytes(
  from: FileHandle,
  to: FileHandle,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<number> {
  const buffer = Buffer.allocUnsafe(chunkBytes);
  for (let doneBytes = 0; ;) {
    signal.throwIfAborted();
    const { bytesRead } = await from.read(buffer, 0, chunkBytes, doneBytes);
    if (bytesRead === 0) return doneBytes;
    // write() may take less than it was given.
    for (let written = 0; written < bytesRead;) {
      const at = doneBytes + written;
      written += (await to.write(buffer, written, bytesRead - written, at)).bytesWritten;
    }
    doneBytes += bytesRead;
    onProgress(doneBytes);
  }
}

const recordQuery = `mutation Record($input: RecordBackupInput!) {
  recordBackup(input: $input) { changed record { status } }
}`;
const askAgainMs = 1000;

/** Reports the copy; the server reads it back, which for a large file outlasts one call. */
async function recordBackup(
  context: Context,
  lfn: string,
  store: string,
  path: string,
): Promise<void> {
  const { client, signal } = context;
  for (;;) {
    try {
      await client.call(recordQuery, { input: { lfn, store, path } });
      return;
    } catch (error) {
      if (!isTransient(error)) throw error;
      // Only a call that was cut off while the store is being asked is worth waiting for.
      for (;;) {
        const [found] = await readRecords(client, [lfn], { store, byPolicy: false });
        const record = found?.copies[0];
        if (record?.status === 'CONFIRMED') return;
        if (record?.status !== 'COPYING' && record?.status !== 'COPIED') throw error;
        await pause(askAgainMs, signal);
      }
    }
  }
}
