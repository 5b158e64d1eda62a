import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { until } from './until.ts';

const launcher = fileURLToPath(new URL('../../bin/sweepbook', import.meta.url));

export interface Ended {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningProgram {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<Ended>;
  stdout(): string;
  stderr(): string;
  kill(signal: NodeJS.Signals): Promise<Ended>;
}

/** The program as its users start it, in a process of its own and a clean environment. */
export function startProgram(
  args: readonly string[],
  environment: Record<string, string> = {},
  options: { cwd?: string; stdin?: string } = {},
): RunningProgram {
  const child = spawn('sh', [launcher, ...args], {
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.end(options.stdin ?? '');
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return {
    process: child,
    pid: child.pid ?? 0,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    kill(signal) {
      child.kill(signal);
      return ended;
    },
  };
}

/** Runs a command to its end. */
export async function runProgram(
  args: readonly string[],
  environment?: Record<string, string>,
  options?: { cwd?: string; stdin?: string },
): Promise<Ended> {
  return startProgram(args, environment, options).ended;
}

export interface ServeProcess extends RunningProgram {
  readonly address: string;
}

/** `sweepbook serve` in a process of its own, ready to answer. */
export async function startServe(environment: Record<string, string>): Promise<ServeProcess> {
  const program = startProgram(['serve'], { SWEEPBOOK_PORT: '0', ...environment });
  const early = program.ended.then((end) => {
    throw new Error(`serve ended early (${end.code}): ${end.stderr}`);
  });
  early.catch(() => undefined);
  const address = await Promise.race([
    early,
    until('serve is up', () => /Sweepbook is up: (http\S+)/.exec(program.stderr())?.[1], 60_000),
  ]);
  return { ...program, address };
}
