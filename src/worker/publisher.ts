import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { advancePublications } from '../publications/advance.service.ts';
import {
  giveUpCopies,
  leftOnDisk,
  recordCleaned,
  type LeftOnDisk,
} from '../publications/publications.service.ts';
import { claimPublications, failWork, renewWork } from '../publications/work.service.ts';
import { isThere } from '../storage/fetch-import.ts';
import type { PublishSettings } from '../storage/publish-settings.ts';
import { indexPath } from '../formats/tar-archive.ts';
import type { WorkerLog } from './log.ts';
import { checkFiles, mergeFiles, type PublishWork } from './publish-steps.ts';

export interface PublishOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly publish: PublishSettings;
  readonly log: WorkerLog;
  /** As it stands in events. */
  readonly name: string;
  /** Of this host: where the volume of publications is. */
  readonly site: string;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly onChange: () => void;
}

interface InHand extends PublishWork {
  readonly abort: AbortController;
}

const pollMs = 1000;
const beatMs = 1000;
/** Publications that one worker checks or merges at once: each reads from disk as fast as it can. */
const atOnce = 2;

/**
 * Checks and merges what is to be published, moves publications on, and removes what they leave behind. Its work is in
 * the tables: a claim is one statement with a lease, and what a dead worker left is claimed again when it is over.
 */
export class PublishWorker {
  private readonly o: PublishOptions;
  private readonly inHand = new Map<number, InHand>();
  private readonly running = new Set<Promise<void>>();
  private beatTimer: NodeJS.Timeout | undefined;
  private draining = false;
  private wakeUp: (() => void) | undefined;
  private loop: Promise<void> = Promise.resolve();
  private lastBeatAt = Date.now();

  constructor(options: PublishOptions) {
    this.o = options;
  }

  start(): void {
    const ms = Math.min(beatMs, (this.o.leaseSeconds * 1000) / 3);
    let busy = false;
    this.beatTimer = setInterval(() => {
      if (busy) return;
      busy = true;
      void this.beat().finally(() => (busy = false));
    }, ms);
    this.loop = this.run();
  }

  /** There may be work: look now. */
  ring(): void {
    this.wakeUp?.();
  }

  /** Takes nothing more; what is under way is given back at once, and goes on where it ended. */
  async stop(): Promise<void> {
    this.draining = true;
    this.ring();
    await this.loop;
    for (const item of this.inHand.values()) item.abort.abort(stopped);
    await Promise.allSettled(this.running);
    clearInterval(this.beatTimer);
  }

  private async run(): Promise<void> {
    await mkdir(this.o.publish.area, { recursive: true }).catch(() => undefined);
    while (!this.draining) {
      let did = 0;
      try {
        // An area that is not mounted holds nothing: that must not be taken for lost copies.
        await stat(this.o.publish.area);
        const moved = await advancePublications({ db: this.o.db, jobs: this.o.jobs, isThere });
        if (moved > 0) this.o.onChange();
        did = moved + (await this.take()) + (await this.cleanUp());
      } catch (error) {
        this.o.log.warn({ error: messageOf(error) }, 'publication: will try again');
      }
      if (did === 0 && !this.draining) await this.sleep();
    }
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pollMs);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async take(): Promise<number> {
    const free = atOnce - this.inHand.size;
    if (free <= 0 || this.draining) return 0;
    const claims = await claimPublications(this.o.db, this.o.name, this.o.leaseSeconds, free);
    for (const claim of claims) {
      const abort = new AbortController();
      const item: InHand = { claim, abort, signal: abort.signal, bytes: 0 };
      this.inHand.set(claim.id, item);
      const work = this.work(item).finally(() => {
        this.inHand.delete(claim.id);
        this.running.delete(work);
        this.o.onChange();
        this.ring();
      });
      this.running.add(work);
    }
    return claims.length;
  }

  private async work(item: InHand): Promise<void> {
    const { claim } = item;
    const facts = { publication: claim.id, attempt: claim.attempt };
    try {
      if (claim.status === 'CHECKING') await checkFiles(this.o, item);
      this.o.onChange();
      item.bytes = 0;
      await mergeFiles(this.o, item);
      this.o.log.info(facts, 'publication: merged');
    } catch (error) {
      await this.failed(item, error, facts);
    }
  }

  private async failed({ claim, abort }: InHand, error: unknown, facts: object): Promise<void> {
    const { db, log, retryBaseMs } = this.o;
    const isInnocent = abort.signal.aborted && abort.signal.reason === stopped;
    const { code, message } = refusalOf(error);
    try {
      const next = await failWork(db, claim, { code, message, isInnocent }, retryBaseMs);
      if (!isInnocent) log.warn({ ...facts, code, reason: message, next }, 'publication: not now');
    } catch (failure) {
      // The lease runs out, and it is taken again.
      log.warn({ ...facts, error: messageOf(failure) }, 'publication: could not be recorded');
    }
  }

  /** Removes what publications that are over have left on disk; of published ones their files stay. */
  private async cleanUp(): Promise<number> {
    const left = await leftOnDisk(this.o.db, 20);
    for (const publication of left) {
      if (this.inHand.has(publication.id)) continue;
      await giveUpCopies(this.o.db, publication.id);
      await tidy(join(this.o.publish.area, `p${publication.id}`), publication);
      await recordCleaned(this.o.db, publication.id);
    }
    return left.length;
  }

  /** Keeps leases alive and tells how far; whoever has lost his lease, or was called off, stops. */
  private async beat(): Promise<void> {
    const items = [...this.inHand.values()];
    const { db, leaseSeconds, log } = this.o;
    try {
      const held = await renewWork(db, items, leaseSeconds);
      this.lastBeatAt = Date.now();
      for (const item of items) {
        if (held.has(item.claim.id) || !this.inHand.has(item.claim.id)) continue;
        item.abort.abort(overtaken);
      }
    } catch (error) {
      if (Date.now() - this.lastBeatAt > leaseSeconds * 1000) {
        for (const item of items) item.abort.abort(overtaken);
      }
      log.warn({ error: messageOf(error) }, 'publication: will try again');
    }
  }
}

async function tidy(folder: string, { kept }: LeftOnDisk): Promise<void> {
  if (kept.length === 0) return rm(folder, { recursive: true, force: true });
  const stays = new Set(kept.flatMap((path) => [path, indexPath(path)]));
  for (const attempt of await readdir(folder).catch(() => [])) {
    const inner = join(folder, attempt);
    let isEmpty = true;
    for (const name of await readdir(inner).catch(() => [])) {
      const path = join(inner, basename(name));
      if (stays.has(path)) isEmpty = false;
      else await rm(path, { recursive: true, force: true });
    }
    if (isEmpty) await rm(inner, { recursive: true, force: true });
  }
}

function refusalOf(error: unknown): SweepbookError {
  if (error instanceof SweepbookError) return error;
  const code = systemCode(error) ?? '';
  if (['ENOSPC', 'EDQUOT'].includes(code)) {
    return new SweepbookError(
      'NO_SPACE',
      'no room where publications are merged: it goes on when there is',
    );
  }
  return new SweepbookError('INTERNAL', messageOf(error));
}

const stopped = new Error('the worker is being stopped');
const overtaken = new SweepbookError('LEASE_LOST', 'the lease has run out, or it was withdrawn');
