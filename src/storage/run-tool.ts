import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { SweepbookError, systemCode } from '../errors.ts';

export interface ToolRun {
  /** Program and arguments; never a shell. */
  readonly argv: readonly [string, ...string[]];
  /** It is ended (SIGTERM, then SIGKILL, with all it started) when it takes longer. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Added to PATH and HOME; nothing else of our environment goes to a tool. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Open files of ours that it reads from and writes to itself, so that no byte goes through this process. */
  readonly stdin?: number | undefined;
  readonly stdout?: number | undefined;
  /** Reads what it writes to standard output, all of it; else the beginning of it is kept as text. */
  readonly onOutput?: (output: Readable) => Promise<void>;
}

export interface ToolAnswer {
  /** Exit code; 128 + the signal's number if a signal ended it. */
  readonly code: number;
  /** At most 64 KiB each; says so where more came. */
  readonly stdout: string;
  readonly stderr: string;
  /** More came than is kept: what is parsed from it is not the whole answer. */
  readonly isCut: boolean;
}

const mostTextBytes = 64 * 1024;
const killAfterMs = 2000;

/** Nothing of our environment goes to a tool but this. */
export const toolEnvironment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  HOME: process.env['HOME'],
  LC_ALL: 'C',
});

/**
 * Runs a store's own tool. STORE_UNAVAILABLE when it is not installed or did not end in time. An exit code is
 * returned, not believed.
 */
export async function runTool(store: string, run: ToolRun): Promise<ToolAnswer> {
  const [program, ...args] = run.argv;
  run.signal?.throwIfAborted();
  const child = spawn(program, args, {
    stdio: [run.stdin ?? 'pipe', run.stdout ?? 'pipe', 'pipe'],
    // Its own group, so that what it started ends with it.
    detached: true,
    env: { ...toolEnvironment(), ...run.env },
  });
  let isLate = false;
  const kill = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // Gone already.
    }
  };
  let killing: NodeJS.Timeout | undefined;
  const end = () => {
    kill('SIGTERM');
    killing ??= setTimeout(() => kill('SIGKILL'), killAfterMs);
  };
  const late = setTimeout(() => {
    isLate = true;
    end();
  }, run.deadlineMs);
  run.signal?.addEventListener('abort', end, { once: true });
  try {
    const ended = new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        clearTimeout(killing);
        resolve(code ?? 128 + (constants.signals[signal ?? 'SIGKILL'] ?? 0));
      });
    });
    // Who reads nothing of its input must not end us.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(run.input ?? '');
    const [code, out, err] = await Promise.all([
      ended,
      run.onOutput && child.stdout
        ? run.onOutput(child.stdout).then(() => nothing)
        : textOf(child.stdout),
      textOf(child.stderr),
    ]);
    run.signal?.throwIfAborted();
    if (isLate) {
      throw new SweepbookError(
        'STORE_UNAVAILABLE',
        `store ${store}: ${program} did not end within ${Math.round(run.deadlineMs / 1000)} s: is the store reachable?`,
        { store, program },
      );
    }
    return { code, stdout: out.text, stderr: err.text, isCut: out.isCut || err.isCut };
  } catch (error) {
    end();
    run.signal?.throwIfAborted();
    if (!['ENOENT', 'EACCES'].includes(systemCode(error) ?? '')) throw error;
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${store}: ${program} is not installed here: install it, or name its path in the store file`,
      { store, program },
      { cause: error },
    );
  } finally {
    clearTimeout(late);
    run.signal?.removeEventListener('abort', end);
  }
}

const nothing = { text: '', isCut: false };

async function textOf(stream: Readable | null): Promise<{ text: string; isCut: boolean }> {
  if (stream === null) return nothing;
  const parts: Buffer[] = [];
  let kept = 0;
  let isCut = false;
  for await (const part of stream as AsyncIterable<Buffer>) {
    const room = mostTextBytes - kept;
    if (part.length > room) isCut = true;
    if (room > 0) parts.push(part.subarray(0, room));
    kept += Math.min(room, part.length);
  }
  return { text: Buffer.concat(parts).toString('utf8'), isCut };
}
