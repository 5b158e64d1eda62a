import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'bench');

/** A program that stands beside us in a process of its own, with packages that we do not carry. */
export const programOf = (name: string): string => join(folder, 'contestants', `${name}.mjs`);

/** A server under measurement, in a process of its own. */
export interface Contestant {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
  /** The token of the operator, when it is ours and this is its first start. */
  readonly token: string | undefined;
  /** Milliseconds of processor time that it has used so far, its threads included. */
  cpuMs(): number;
  /** Bytes of memory that are its own now. */
  rssBytes(): number;
  close(): Promise<void>;
}

/** Installs what stands beside us, the first time. */
export function installContestants(): void {
  if (existsSync(join(folder, 'node_modules', 'autocannon'))) return;
  process.stderr.write('installing what is measured beside Sweepbook …\n');
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder, stdio: 'inherit' });
}

/** What users run is compiled. */
export function build(): void {
  execFileSync('npm', ['run', 'build', '--silent'], { cwd: root, stdio: 'inherit' });
}

export async function startContestant(
  name: 'postgraphile' | 'json-handler' | 'bare',
  databaseUrl: string,
): Promise<Contestant> {
  const child = spawn(process.execPath, [programOf(name)], {
    env: { ...process.env, DATABASE_URL: databaseUrl, NODE_ENV: 'production' },
    // It complains of each column of a type that it does not know (xid8), at length.
    stdio: ['ignore', 'pipe', process.env['BENCH_DEBUG'] ? 'inherit' : 'ignore'],
  });
  const url = await told(child, child.stdout, /listening (\S+)/);
  return contestant(name, url.found, child);
}

/** The program as its users start it, without a worker: the others have none. */
export async function startSweepbook(
  name: string,
  databaseUrl: string | undefined,
  settings: Record<string, string> = {},
): Promise<Contestant> {
  const home = mkdtempSync(join(tmpdir(), 'sweepbook-bench-home-'));
  const child = spawn('sh', [join(root, 'bin', 'sweepbook'), 'serve'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      SWEEPBOOK_PORT: '0',
      SWEEPBOOK_HOME: home,
      SWEEPBOOK_WORKER: 'false',
      // One principal asks as much as he can.
      SWEEPBOOK_LIMIT_RATE: '0',
      SWEEPBOOK_LIMIT_ANONYMOUS_RATE: '0',
      SWEEPBOOK_LIMIT_SOCKETS_PER_PRINCIPAL: '2000',
      ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl }),
      ...settings,
    },
    // The log is written as in production, and read by nobody.
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const { found, said } = await told(child, child.stderr, /Sweepbook is up: (\S+)/);
  const token = /Operator token: +(\S+)/.exec(said)?.[1];
  const made = contestant(name, `${found}/graphql`, child, token);
  return {
    ...made,
    async close() {
      await made.close();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function contestant(name: string, url: string, child: ChildProcess, token?: string): Contestant {
  const pid = child.pid ?? 0;
  return {
    name,
    url,
    pid,
    token,
    cpuMs: () => cpuMs(pid),
    rssBytes: () => rssBytes(pid),
    close: () =>
      new Promise<void>((resolve) => {
        child.once('close', () => resolve());
        child.kill('SIGTERM');
      }),
  };
}

/** Waits for what a process says when it is ready. */
function told(
  child: ChildProcess,
  stream: NodeJS.ReadableStream,
  form: RegExp,
): Promise<{ found: string; said: string }> {
  return new Promise((resolve, reject) => {
    let said = '';
    stream.setEncoding('utf8');
    stream.on('data', (part: string) => {
      said += part;
      const found = form.exec(said)?.[1];
      if (found !== undefined) setTimeout(() => resolve({ found, said }), 50);
    });
    child.once('close', (code) => reject(new Error(`it ended early (${code}): ${said}`)));
  });
}

// The kernel counts in hundredths of a second, whatever the clock of the processor.
const msPerTick = 10;

export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // After the name, which may hold spaces: utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * msPerTick;
}

export function rssBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) * 1024;
}

export interface Load {
  readonly answers: number;
  readonly failures: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
}

/** Sends the bodies, one after the other on each of some connections, for so many seconds. */
export async function load(
  url: string,
  bodies: readonly string[],
  {
    seconds,
    connections = 8,
    token,
  }: { seconds: number; connections?: number; token?: string | undefined },
): Promise<Load> {
  const child = spawn(process.execPath, [programOf('load')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(
    JSON.stringify({
      url,
      bodies,
      connections,
      seconds,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    }),
  );
  return JSON.parse(await text(child.stdout)) as Load;
}
