import { spawn, spawnSync } from 'node:child_process';

/** Whether a program of the system is there; says loudly what is not tested without it. */
export function has(program: string, ...args: string[]): boolean {
  const found = spawnSync(program, args.length > 0 ? args : ['--version'], { stdio: 'ignore' });
  const isThere = found.error === undefined && found.status === 0;
  if (!isThere) {
    console.warn(`\n*** ${program} is not on this machine: what it would read is NOT TESTED ***\n`);
  }
  return isThere;
}

export interface ForeignEnd {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of the system with bytes on its standard input. The event loop goes on: it may ask our server. */
export async function runForeign(
  program: string,
  args: readonly string[],
  options: { stdin?: string | Buffer; env?: Record<string, string>; cwd?: string } = {},
): Promise<ForeignEnd> {
  const child = spawn(program, args, {
    env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8', ...options.env },
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.stdin ?? '');
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
