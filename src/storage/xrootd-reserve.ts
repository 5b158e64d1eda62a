import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { systemCode } from '../errors.ts';
import { isPlainWord } from './xrootd-session.ts';
import { failureOf, type XrootdAnswer, type XrootdTools } from './xrootd-tools.ts';

/** What reserving needs of a server. */
export interface ReservingServer {
  readonly tools: XrootdTools;
  /** Makes one; false = something has this name already. */
  create(key: string, text: string): Promise<boolean>;
  /** Copies files and folders of this host into the folder of the store; nothing is replaced. */
  copyInto(sources: readonly string[]): Promise<XrootdAnswer>;
  /** What a small file says; empty = something else is there; undefined = nothing. */
  smallText(key: string): Promise<string | undefined>;
}

interface Wanted {
  readonly key: string;
  readonly text: string;
  readonly told: PromiseWithResolvers<boolean>;
}

/** Names in one copy. */
const mostAtOnce = 64;

/**
 * Makes small files under names that are free. Those that are asked for while a copy runs go together in the next one:
 * its start costs more than all of them. Each counts by what is read under its name, whatever the tool said.
 */
export class XrootdReservations {
  private waiting: Wanted[] = [];
  private isBusy = false;

  constructor(private readonly server: ReservingServer) {}

  /** false = something else has this name. */
  reserve(key: string, text: string): Promise<boolean> {
    const told = Promise.withResolvers<boolean>();
    this.waiting.push({ key, text, told });
    if (!this.isBusy) void this.work();
    return told.promise;
  }

  private async work(): Promise<void> {
    this.isBusy = true;
    while (this.waiting.length > 0) {
      const some = this.waiting.splice(0, mostAtOnce);
      try {
        await this.make(some);
      } catch (error) {
        for (const { told } of some) told.reject(error);
      }
    }
    this.isBusy = false;
  }

  private async make(some: readonly Wanted[]): Promise<void> {
    const [first] = some;
    const isAlone = some.length === 1 && first !== undefined;
    const odd = isAlone ? some : some.filter(({ key }) => !isPlainWord(key));
    await Promise.all([
      ...odd.map(({ key, text, told }) =>
        this.server.create(key, text).then(told.resolve, told.reject),
      ),
      this.makeTogether(some.filter((one) => !odd.includes(one))),
    ]);
  }

  /** As a tree of this host that is copied: each file fails for itself if its name is taken. */
  private async makeTogether(some: readonly Wanted[]): Promise<void> {
    if (some.length === 0) return;
    const folder = await mkdtemp(join(tmpdir(), 'sweepbook-reserve-'));
    try {
      const placed: Wanted[] = [];
      for (const one of some) {
        if (await place(folder, one)) placed.push(one);
        // Two of one name, or one below the other: not at once.
        else this.waiting.push(one);
      }
      const sources = (await readdir(folder)).map((name) => join(folder, name));
      const answer = await this.server.copyInto(sources);
      await Promise.all(placed.map((one) => this.tell(one, answer)));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  private async tell({ key, text, told }: Wanted, answer: XrootdAnswer): Promise<void> {
    try {
      const there = await this.server.smallText(key);
      if (there === undefined) throw failureOf(this.server.tools, answer);
      told.resolve(there === text);
    } catch (error) {
      told.reject(error);
    }
  }
}

async function place(folder: string, { key, text }: Wanted): Promise<boolean> {
  try {
    const path = join(folder, key);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if (['EEXIST', 'ENOTDIR', 'EISDIR'].includes(systemCode(error) ?? '')) return false;
    throw error;
  }
}
