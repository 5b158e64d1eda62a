import type { Context } from './command.ts';
import { CliError, exitCode, exitCodeOf, type ExitCode } from './exit-codes.ts';
import { hashFile, type Hashed } from './hash-file.ts';
import { complain } from './print.ts';
import { startProgress } from './progress.ts';
import { unreadable, type CheckedFiles, type SourceFile } from './source-files.ts';
import { counted } from './table.ts';

/** What is told of every file besides its bytes. */
export interface Description {
  readonly kind: string;
  readonly stream?: string | undefined;
  readonly release?: string | undefined;
  readonly eventCount?: number | undefined;
  readonly runs?: readonly { readonly number: number; readonly source: string }[] | undefined;
}

/** A file that the server knows now. */
export interface RegisteredFile extends SourceFile {
  readonly hashed: Hashed;
}

interface Registration {
  readonly files: readonly RegisteredFile[];
  /** One for each file that is left out; said on stderr already. */
  readonly faults: readonly CliError[];
}

/** Who is asked before a long hashing, so that a wrong token or a server that is down shows at once. */
export async function demandServer({ client }: Context): Promise<void> {
  const query = 'query Whoami { viewer { principal roles } }';
  const { viewer } = await client.call<{ viewer: { roles: string[] } }>(query);
  if (viewer.roles.every((role) => role === 'ANONYMOUS')) {
    throw client.refusal({ code: 'UNAUTHENTICATED', message: '' });
  }
  // It answers: from here on a short absence is waited for.
  client.patienceMs = 60_000;
}

/** The exit code when no file given is any good, so that nobody need be asked; each is a line on stderr. */
export function noneGood({ good, faults }: CheckedFiles): ExitCode | undefined {
  if (good.length > 0) return undefined;
  for (const fault of faults) complain(fault.message);
  return exitOfFaults(faults);
}

/** Hashes and registers what is good; each fault is a line on stderr. */
export async function hashAndRegister(
  context: Context,
  checked: CheckedFiles,
  description: Description,
): Promise<Registration> {
  for (const fault of checked.faults) complain(fault.message);
  const hashed = await hashAll(context, checked.good);
  const registered = await registerAll(context, hashed.files, description);
  return {
    files: registered.files,
    faults: [...checked.faults, ...hashed.faults, ...registered.faults],
  };
}

/** The exit code when no file at all is left: theirs if they agree. */
export function exitOfFaults(faults: readonly CliError[]): ExitCode {
  const exits = new Set(faults.map((fault) => fault.exit));
  const [only] = exits;
  return exits.size === 1 && only !== undefined ? only : exitCode.failed;
}

async function hashAll(context: Context, sources: readonly SourceFile[]): Promise<Registration> {
  const totalBytes = sources.reduce((sum, file) => sum + file.sizeBytes, 0);
  const progress = startProgress('hashing', totalBytes);
  const files: RegisteredFile[] = [];
  const faults: CliError[] = [];
  let before = 0;
  try {
    for (const [index, source] of sources.entries()) {
      const now = `${index + 1}/${sources.length} ${source.given}`;
      try {
        const hashed = await hashFile(source.path, context.signal, (doneBytes) =>
          progress.update(before + doneBytes, now),
        );
        files.push({ ...source, hashed });
      } catch (error) {
        context.signal.throwIfAborted();
        const fault = error instanceof CliError ? error : unreadable(source.given, error);
        complain(fault.message);
        faults.push(fault);
      }
      before += source.sizeBytes;
    }
  } finally {
    progress.stop();
  }
  return { files, faults };
}

const registerQuery = `mutation Register($input: RegisterFilesInput!) {
  registerFiles(input: $input) {
    registeredCount existingCount
    results { index lfn outcome error { code message } }
  }
}`;

interface RegisterAnswer {
  readonly registerFiles: {
    readonly registeredCount: number;
    readonly existingCount: number;
    readonly results: readonly ItemAnswer[];
  };
}

/** What bulk mutations answer for each item. */
export interface ItemAnswer {
  readonly index: number;
  readonly lfn: string;
  readonly outcome: 'REGISTERED' | 'UPDATED' | 'EXISTING' | 'REFUSED';
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** The fault that an item's refusal is. */
export function faultOf(item: ItemAnswer): CliError {
  const { code, message } = item.error ?? { code: 'INTERNAL', message: 'refused without a reason' };
  const text = message.includes(item.lfn) ? message : `${item.lfn}: ${message}`;
  return new CliError(exitCodeOf(code), text, code);
}

const mostPerCall = 1000;

/** The list in pieces that fit in one call. */
export function inCalls<Item>(items: readonly Item[], size = mostPerCall): Item[][] {
  const calls: Item[][] = [];
  for (let at = 0; at < items.length; at += size) calls.push(items.slice(at, at + size));
  return calls;
}

async function registerAll(
  { client, output }: Context,
  files: readonly RegisteredFile[],
  description: Description,
): Promise<Registration> {
  const known: RegisteredFile[] = [];
  const faults: CliError[] = [];
  let existingCount = 0;
  for (const call of inCalls(files)) {
    const input = {
      files: call.map(({ lfn, path, hashed }) => ({ ...description, ...hashed, lfn, path })),
    };
    const answer = await client.call<RegisterAnswer>(registerQuery, { input });
    existingCount += answer.registerFiles.existingCount;
    for (const item of answer.registerFiles.results) {
      const file = call[item.index];
      if (item.outcome === 'REFUSED') faults.push(faultOf(item));
      else if (file !== undefined) known.push(file);
    }
  }
  for (const fault of faults) complain(fault.message);
  const newCount = known.length - existingCount;
  if (newCount > 0) await output.say(`registered ${counted(newCount, 'file')}`);
  if (existingCount > 0) await output.say(`${counted(existingCount, 'file')} already registered`);
  return { files: known, faults };
}
