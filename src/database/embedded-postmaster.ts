import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { runAs, type Place } from './embedded-account.ts';
import { cleanEnvironment, giveToOwner, role } from './embedded-cluster.ts';
import { isAlive, isPostmasterOf } from './embedded-process.ts';

/** A running postmaster, started by us or found. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  /** Resolves with the exit code or signal; never rejects. */
  readonly ended: Promise<string>;
  isOver(): boolean;
}

const logName = 'postgres.log';
const logLimitBytes = 10_000_000;
/** After a crash PostgreSQL replays its log before it answers; minutes are possible. */
const recoveryLimitMs = 600_000;
const stepLimitMs = 10_000;

/** The postmaster that runs on this data folder, by its own note of it. */
export async function findPostmaster(data: string): Promise<Postmaster | undefined> {
  const noted = await readNote(data);
  if (noted === undefined || !isPostmasterOf(noted.pid, data)) return undefined;
  return {
    ...noted,
    ended: untilGone(noted.pid, data),
    isOver: () => !isPostmasterOf(noted.pid, data),
  };
}

/** Starts `postgres` itself; whether it comes up is seen by `untilReady`. */
export async function startPostmaster(
  place: Place,
  programs: string,
  port: number,
): Promise<Postmaster> {
  await removeForeignNote(place.data);
  const logFile = await openLog(place.base);
  const options = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'max_connections=100',
    'timezone=UTC',
    'log_timezone=UTC',
    // The statements that were refused hold users' data.
    'log_min_error_statement=panic',
    'log_checkpoints=off',
  ].flatMap((setting) => ['-c', setting]);
  const child = spawn(
    join(programs, 'bin', 'postgres'),
    ['-D', place.data, '-p', String(port), ...options],
    // Its own process group: Ctrl-C in the terminal is for us, who stop it in order.
    {
      cwd: place.base,
      env: cleanEnvironment,
      detached: true,
      stdio: ['ignore', logFile, logFile],
      ...runAs(place.account),
    },
  );
  closeSync(logFile);
  let over = false;
  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`));
    child.once('error', (error) => resolve(messageOf(error)));
  }).then((end) => {
    over = true;
    return end;
  });
  child.unref();
  return { pid: child.pid ?? 0, port, ended, isOver: () => over };
}

/** The address of the embedded database. */
export function urlOf(port: number, password: string, database: string = role): string {
  return `postgres://${role}:${password}@127.0.0.1:${port}/${database}`;
}

export interface Patience {
  readonly limitMs?: number;
  readonly signal?: AbortSignal;
  readonly log?: (line: string) => void;
}

/**
 * Waits until the database answers, by asking it; makes the database if it is missing
 * (the first start may have died before it did).
 * @returns whether it answers; false: the postmaster ended, the time is over or the signal came
 */
export async function untilReady(
  postmaster: Postmaster,
  password: string,
  { limitMs = recoveryLimitMs, signal, log }: Patience = {},
): Promise<boolean> {
  const begun = Date.now();
  let told = begun;
  for (let waitMs = 5; !postmaster.isOver() && signal?.aborted !== true;) {
    if (await answers(postmaster, password)) return true;
    if (Date.now() - begun > limitMs) return false;
    if (Date.now() - told > stepLimitMs) {
      told = Date.now();
      log?.(`PostgreSQL (process ${postmaster.pid}) is still starting`);
    }
    await Promise.race([postmaster.ended, pause(waitMs)]);
    waitMs = Math.min(waitMs * 2, 200);
  }
  return false;
}

async function answers(postmaster: Postmaster, password: string): Promise<boolean> {
  const { port } = postmaster;
  try {
    await ask(urlOf(port, password), 'select 1');
    return true;
  } catch (error) {
    // 3D000: no such database.
    if (systemCode(error) !== '3D000') return false;
  }
  try {
    await ask(urlOf(port, password, 'postgres'), `create database ${role}`);
    return true;
  } catch (error) {
    // 42P04: somebody was quicker.
    return systemCode(error) === '42P04';
  }
}

async function ask(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query(sql);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Fast shutdown; when that takes too long the next sharper one, which costs a recovery. */
export async function stopPostmaster(postmaster: Postmaster): Promise<void> {
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    if (postmaster.isOver()) return;
    try {
      process.kill(postmaster.pid, signal);
    } catch (error) {
      if (systemCode(error) !== 'ESRCH') throw error;
    }
    const limit = Date.now() + stepLimitMs;
    while (!postmaster.isOver() && Date.now() < limit) {
      await Promise.race([postmaster.ended, pause(50)]);
    }
  }
  if (postmaster.isOver()) return;
  throw new SweepbookError('UNAVAILABLE', `PostgreSQL (process ${postmaster.pid}) does not end`, {
    pid: postmaster.pid,
  });
}

/** How long the server’s log is now: where the next start’s lines begin. */
export async function logSize(base: string): Promise<number> {
  return (await stat(join(base, logName)).catch(() => undefined))?.size ?? 0;
}

/** What the server has written to its log since it was `from` long, its last part. */
export async function readLog(base: string, from: number): Promise<string> {
  const handle = await open(join(base, logName), 'r');
  try {
    const { size } = await handle.stat();
    const start = Math.max(from > size ? 0 : from, size - 8192);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(8192), 0, 8192, start);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function openLog(base: string): Promise<number> {
  const path = join(base, logName);
  if ((await logSize(base)) > logLimitBytes) await rename(path, `${path}.1`);
  const file = openSync(path, 'a', 0o600);
  await giveToOwner(path);
  return file;
}

async function readNote(data: string): Promise<{ pid: number; port: number } | undefined> {
  try {
    const lines = (await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n');
    const [pid, port] = [Number(lines[0]), Number(lines[3])];
    return pid > 0 && port > 0 && lines[1] === data ? { pid, port } : undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * PostgreSQL itself judges the note of a dead postmaster. It cannot when the id is in
 * use again, or the folder was copied together with its note: then it would refuse for
 * ever. It still refuses while backends of this folder hold its shared memory.
 */
async function removeForeignNote(data: string): Promise<void> {
  const note = join(data, 'postmaster.pid');
  const pid = Number((await readFile(note, 'utf8').catch(() => '')).split('\n')[0]);
  if (pid > 0 && answersSignals(pid) && !isPostmasterOf(pid, data)) await rm(note, { force: true });
}

/** Also true of a dead process not yet reaped, which PostgreSQL takes for a live one. */
function answersSignals(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return isAlive(pid);
  }
}

/** Resolves when a postmaster that is not our child is gone; does not keep the program running. */
function untilGone(pid: number, data: string): Promise<string> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (isPostmasterOf(pid, data)) return;
      clearInterval(timer);
      resolve('gone');
    }, 250).unref();
  });
}
