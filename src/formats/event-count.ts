import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import type { Piscina } from 'piscina';
import { badInput, messageOf, SweepbookError, systemCode } from '../errors.ts';
import { threadFile } from '../threads.ts';
import type { RootAnswer, RootTask } from './root-events.thread.ts';

/** How many events a file holds, and who says so. */
export interface EventCount {
  /** null = not known: it is no ROOT file, and no command counts. */
  readonly events: number | null;
  /** The tree that was counted; null = it was not counted by its tree. */
  readonly tree: string | null;
}

export interface CountOptions {
  /** Name of the TTree or RNTuple, with its folders: "Events", "ntuples/hits"; undefined = the only one in the file. */
  readonly tree?: string | undefined;
  /** What prints the number of events, as program and arguments; {file} stands for the path. Never a shell. */
  readonly command?: readonly string[] | undefined;
  /** How long it may take; 60 if not given. */
  readonly seconds?: number | undefined;
  /** The environment of the command; that of this process if not given. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** What the file is called in errors, if not by its path. */
  readonly name?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

const usualSeconds = 60;
const mostTrees = 20;

/**
 * Counts the events of a file of this host: by the command if there is one, else as ROOT files tell it themselves.
 * Errors: BAD_USER_INPUT when it is not clear which tree is meant (facts.trees), SOURCE_UNREADABLE when the file or
 * the answer of the command cannot be read, UNAVAILABLE when what counts is not installed, or does not end in time.
 */
export async function countEvents(path: string, options: CountOptions = {}): Promise<EventCount> {
  const { tree, command, signal, name = path } = options;
  signal?.throwIfAborted();
  if (command) return { events: await countByCommand(path, command, options), tree: null };
  if (!(await isRootFile(path, name))) return { events: null, tree: null };
  const answer = await askThread({ path, tree }, options);
  switch (answer.outcome) {
    case 'COUNTED':
      return { events: answer.events, tree: answer.tree };
    case 'UNCLEAR':
      throw unclear(name, tree, answer.trees);
    case 'BROKEN':
      throw unreadable(name, `is no whole ROOT file: ${answer.why}`);
    case 'NO_READER':
      throw unavailable(
        `what reads ROOT files (jsroot) cannot be loaded: install it, or name a command that counts; ${answer.why}`,
      );
  }
}

/** "dump {file}" as program and arguments: words with blanks stand in quotes. BAD_USER_INPUT otherwise. */
export function commandWords(text: string): string[] {
  const pattern = /\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))(?=\s|$)/y;
  const words: string[] = [];
  while (pattern.lastIndex < text.trimEnd().length) {
    const found = pattern.exec(text);
    if (!found) throw badInput('command', text, 'words, those with blanks in quotes');
    words.push(found[1] ?? found[2] ?? found[3] ?? '');
  }
  if (words.length > 1 && words.slice(1).some((word) => word.includes('{file}'))) return words;
  throw badInput('command', text, 'a program and its arguments, {file} for the file among them');
}

const unreadable = (path: string, why: string, cause?: unknown) =>
  new SweepbookError('SOURCE_UNREADABLE', `${path}: ${why}`, { path }, { cause });

const unavailable = (why: string, cause?: unknown) =>
  new SweepbookError('UNAVAILABLE', why, {}, { cause });

function unclear(path: string, tree: string | undefined, trees: readonly string[]): SweepbookError {
  const shown = trees.slice(0, mostTrees).join(', ');
  const more = trees.length > mostTrees ? ` and ${trees.length - mostTrees} more` : '';
  const facts = { field: 'tree', path, trees: trees.slice(0, mostTrees) };
  const wanted = tree === undefined ? '' : ` named ${tree}`;
  const message =
    trees.length === 0
      ? `${path}: there is no tree in it at all`
      : tree === undefined
        ? `${path}: ${trees.length} trees are in it, say which one counts the events: ${shown}${more}`
        : `${path}: there is no tree${wanted} in it, but ${shown}${more}`;
  return new SweepbookError('BAD_USER_INPUT', message, facts);
}

/** Whether it begins as all ROOT files do. */
async function isRootFile(path: string, name: string): Promise<boolean> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
      return bytesRead === 4 && buffer.toString('latin1') === 'root';
    } finally {
      await file.close();
    }
  } catch (error) {
    throw unreadable(name, `cannot be read (${systemCode(error) ?? messageOf(error)})`, error);
  }
}

let pool: Promise<Piscina<RootTask, RootAnswer>> | undefined;

/** Loaded when the first ROOT file comes: who counts nothing pays nothing. */
async function startPool(): Promise<Piscina<RootTask, RootAnswer>> {
  const { Piscina } = await import('piscina');
  return new Piscina<RootTask, RootAnswer>({
    filename: threadFile('root-events', import.meta.url),
    name: 'countEntries',
    minThreads: 0,
    maxThreads: 2,
    idleTimeout: 5_000,
    resourceLimits: { maxOldGenerationSizeMb: 1024 },
  });
}

async function askThread(
  task: RootTask,
  { signal, seconds = usualSeconds, name = task.path }: CountOptions,
): Promise<RootAnswer> {
  pool ??= startPool();
  const threads = await pool;
  const late = AbortSignal.timeout(seconds * 1000);
  try {
    return await threads.run(task, { signal: signal ? AbortSignal.any([signal, late]) : late });
  } catch (error) {
    signal?.throwIfAborted();
    const why = late.aborted ? `took longer than ${seconds} s to read` : messageOf(error);
    throw unreadable(name, why, error);
  }
}

async function countByCommand(
  path: string,
  [program = '', ...template]: readonly string[],
  { signal, seconds = usualSeconds, name = path, env }: CountOptions,
): Promise<number> {
  const args = template.map((part) => part.replaceAll('{file}', () => path));
  const limits = {
    timeout: seconds * 1000,
    maxBuffer: 65_536,
    killSignal: 'SIGKILL',
    env,
    signal,
  } as const;
  const answer = await new Promise<string>((resolve, reject) => {
    execFile(program, args, limits, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const said = `${stderr} ${stdout}`.replaceAll(/\s+/g, ' ').trim().slice(0, 200);
      if (['ENOENT', 'EACCES'].includes(systemCode(error) ?? '')) {
        return reject(
          unavailable(
            `${program}, which counts events, is not installed here (${error.message})`,
            error,
          ),
        );
      }
      if (error.killed && error.code == null) {
        const why = `${program} did not count the events of ${name} within ${seconds} s`;
        return reject(unavailable(why, error));
      }
      const why = `${program} does not count its events: ${said || error.message}`;
      reject(unreadable(name, why, error));
    }).stdin?.end();
  }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
  const number = answer.trim();
  if (/^\d{1,15}$/.test(number)) return Number(number);
  const shown = JSON.stringify(answer.slice(0, 100));
  throw unreadable(name, `${program} must print the number of its events, and printed ${shown}`);
}
