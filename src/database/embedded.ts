import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { runnableBinaries } from './embedded-binaries.ts';
import { ensureCluster, failed, readPassword, writeWhole } from './embedded-cluster.ts';
import { ownFolder } from './embedded-lock.ts';
import { choosePlace, findBase, rememberPlace } from './embedded-place.ts';
import {
  findPostmaster,
  logSize,
  readLog,
  startPostmaster,
  stopPostmaster,
  untilReady,
  urlOf,
  type Postmaster,
} from './embedded-postmaster.ts';
import type { Place } from './embedded-account.ts';

export interface EmbeddedOptions {
  /** Of the database and all that belongs to it; made when missing. */
  readonly folder: string;
  readonly log: (line: string) => void;
}

/** A real PostgreSQL of our own, kept running until it is closed. */
export interface EmbeddedPostgres {
  /** The same for as long as it is open, whatever happens to the postmaster. */
  readonly url: string;
  /** Of the present postmaster. */
  readonly pid: number;
  /** Stops PostgreSQL; safe to call again. */
  close(): Promise<void>;
}

/** Old backends may outlive a killed postmaster for a while and hold its shared memory. */
const leftoversLimitMs = 60_000;
const adoptLimitMs = 60_000;
const findLimitMs = 10_000;
const longestPauseMs = 5000;

/**
 * Opens the database of a folder: made at the first start, found again at later ones,
 * taken over when an earlier server died and left it running.
 * @throws SweepbookError UNAVAILABLE (in use, wrong version, no binaries, does not start), NO_SPACE
 */
export async function openEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const folder = resolve(options.folder);
  try {
    const place = await choosePlace(folder, options.log);
    const release = await ownFolder(place.base);
    try {
      return await openOwned(folder, place, release, options.log);
    } catch (error) {
      release();
      throw error;
    }
  } catch (error) {
    throw error instanceof SweepbookError ? error : refusedBySystem(folder, error);
  }
}

async function openOwned(
  folder: string,
  place: Place,
  release: () => void,
  log: (line: string) => void,
): Promise<EmbeddedPostgres> {
  const binaries = await runnableBinaries(place.base, place.account, log);
  const password = await ensureCluster(place, binaries);
  await rememberPlace(folder, place);
  const start = new Start(place, binaries.folder, password, log);
  const postmaster = (await start.adopt()) ?? (await start.first());
  return new Keeper(start, postmaster, release);
}

/** A folder that cannot be read or written, a full disk: for a person to repair. */
function refusedBySystem(folder: string, error: unknown): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  return new SweepbookError(
    ['ENOSPC', 'EDQUOT'].includes(code) ? 'NO_SPACE' : 'UNAVAILABLE',
    `the embedded database in ${folder} cannot be opened (${messageOf(error)}): ` +
      'repair that, or set another SWEEPBOOK_HOME or a DATABASE_URL',
    { folder, code },
    { cause: error },
  );
}

/** The address of the database that another process keeps running for this folder, if one does. */
export async function findEmbeddedPostgres(folder: string): Promise<string | undefined> {
  try {
    const base = await findBase(resolve(folder));
    const password = base && (await readPassword(base));
    const postmaster = base && (await findPostmaster(join(base, 'data')));
    if (!password || !postmaster) return undefined;
    const ready = await untilReady(postmaster, password, { limitMs: findLimitMs });
    return ready ? urlOf(postmaster.port, password) : undefined;
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
    throw new SweepbookError(
      'UNAVAILABLE',
      `the embedded database in ${folder} belongs to another user (${messageOf(error)}): ` +
        'run this as that user, or set DATABASE_URL',
      { folder },
    );
  }
}

/** Why a start failed, as far as it decides what to do next. */
type Hindrance = 'port taken' | 'leftovers' | 'other';

/** The ways to a postmaster that answers. */
class Start {
  constructor(
    readonly place: Place,
    readonly programs: string,
    readonly password: string,
    readonly log: (line: string) => void,
  ) {}

  /** One that still runs, of a server that was killed. */
  async adopt(): Promise<Postmaster | undefined> {
    const found = await findPostmaster(this.place.data);
    if (found === undefined) return undefined;
    const patience = { limitMs: adoptLimitMs, log: this.log };
    if (await untilReady(found, this.password, patience)) {
      this.log(`PostgreSQL still runs (process ${found.pid}) and is taken over`);
      return found;
    }
    if (found.isOver()) return undefined;
    throw new SweepbookError(
      'UNAVAILABLE',
      `PostgreSQL (process ${found.pid}) runs on ${this.place.data} but does not answer: ` +
        `end it with \`kill -INT ${found.pid}\` and start again`,
      { pid: found.pid },
    );
  }

  /** A new one, on the port of last time if that is free. */
  async first(): Promise<Postmaster> {
    const limit = Date.now() + leftoversLimitMs;
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const port = await freePort(await readPort(this.place.base));
      const tried = await this.once(port);
      if (!('hindrance' in tried)) {
        await writeWhole(join(this.place.base, 'port'), `${port}\n`);
        return tried;
      }
      if (tried.hindrance === 'other' || Date.now() > limit) throw tried.error;
      this.log(`PostgreSQL does not start yet (${tried.hindrance}), trying again`);
      await pause(pauseMs);
    }
  }

  /** Tries until it runs or the signal comes: its clients know only this port. */
  async again(port: number, signal: AbortSignal): Promise<Postmaster | undefined> {
    for (let pauseMs = 100; !signal.aborted; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      try {
        const tried = await this.once(port, signal);
        if (!('hindrance' in tried)) return tried;
        if (!signal.aborted) this.log(messageOf(tried.error));
      } catch (error) {
        this.log(`PostgreSQL does not start: ${messageOf(error)}`);
      }
      await pause(pauseMs, undefined, { signal }).catch(() => undefined);
    }
    return undefined;
  }

  private async once(
    port: number,
    signal?: AbortSignal,
  ): Promise<Postmaster | { hindrance: Hindrance; error: SweepbookError }> {
    const { base } = this.place;
    const from = await logSize(base);
    const postmaster = await startPostmaster(this.place, this.programs, port);
    if (await untilReady(postmaster, this.password, { signal, log: this.log })) return postmaster;
    await stopPostmaster(postmaster);
    const said = await readLog(base, from);
    const error = failed('PostgreSQL does not start', said, await postmaster.ended);
    return { hindrance: hindranceIn(said), error };
  }
}

function hindranceIn(said: string): Hindrance {
  if (/could not bind|Address already in use/.test(said)) return 'port taken';
  if (/pre-existing shared memory block|lock file .* already exists/.test(said)) return 'leftovers';
  return 'other';
}

/** Owns the postmaster: starts it again when it dies, stops it at the end. */
class Keeper implements EmbeddedPostgres {
  readonly url: string;
  private readonly closing = new AbortController();
  private readonly watching: Promise<void>;
  private closed: Promise<void> | undefined;

  constructor(
    private readonly start: Start,
    private postmaster: Postmaster,
    private readonly release: () => void,
  ) {
    this.url = urlOf(postmaster.port, start.password);
    this.watching = this.watch();
  }

  get pid(): number {
    return this.postmaster.pid;
  }

  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async watch(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      const end = await Promise.race([this.postmaster.ended, untilAborted(signal)]);
      if (signal.aborted) return;
      this.start.log(
        `PostgreSQL (process ${this.pid}) ended by itself (${end}): starting it again`,
      );
      const again = await this.start.again(this.postmaster.port, signal);
      if (again === undefined) return;
      this.postmaster = again;
      this.start.log(`PostgreSQL runs again (process ${again.pid})`);
    }
  }

  private async end(): Promise<void> {
    this.closing.abort();
    try {
      await stopPostmaster(this.postmaster);
      // Its place may have been taken just now.
      await this.watching;
      await stopPostmaster(this.postmaster);
    } finally {
      this.release();
    }
  }
}

/** Closing waits for no timer of a watch: those do not keep the program running. */
function untilAborted(signal: AbortSignal): Promise<string> {
  return new Promise((done) =>
    signal.addEventListener('abort', () => done('closed'), { once: true }),
  );
}

async function readPort(base: string): Promise<number> {
  const noted = await readFile(join(base, 'port'), 'utf8').catch(() => '');
  return Number(noted.trim()) || 0;
}

/** The wanted port if it is free, else any free one. */
async function freePort(wanted: number): Promise<number> {
  const server = createServer();
  try {
    return await new Promise<number>((resolvePort, reject) => {
      server.once('error', reject);
      server.listen(wanted, '127.0.0.1', () => {
        const address = server.address();
        if (address === null || typeof address === 'string') reject(new Error('no port'));
        else resolvePort(address.port);
      });
    });
  } catch (error) {
    if (wanted === 0) throw error;
    return freePort(0);
  } finally {
    if (server.listening) await new Promise((done) => server.close(done));
  }
}
