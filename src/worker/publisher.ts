import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { advancePublications } from '../publications/advance.service.ts';
import { giveUpLeftovers, recordCleaned, untidied } from '../publications/clean-up.service.ts';
import { claimPublications, failWork, renewWork } from '../publications/work.service.ts';
import { isThere } from '../storage/fetch-import.ts';
import type { OpenStores } from '../storage/open.ts';
import type { PublishSettings } from '../storage/publish-settings.ts';
import { indexPath } from '../formats/tar-archive.ts';
import { LeasedWork, stopped } from './leased-work.ts';
import type { WorkerLog } from './log.ts';
import { removeAgainMs, removeCopies, removingStores } from './removing.ts';
import { checkFiles, mergeFiles, type PublishWork } from './publish-steps.ts';

export interface PublishOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
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

/** Publications that one worker checks or merges at once: each reads from disk as fast as it can. */
const atOnce = 2;

/**
 * Checks and merges what is to be published, moves publications on, and removes what they leave behind. Its work is in
 * the tables: a claim is one statement with a lease, and what a dead worker left is claimed again when it is over.
 */
export class PublishWorker {
  private readonly o: PublishOptions;
  private readonly leased: LeasedWork<InHand>;
  private removeAt = 0;

  constructor(options: PublishOptions) {
    this.o = options;
    const { db, log, leaseSeconds, onChange } = options;
    this.leased = new LeasedWork<InHand>({
      what: 'publication',
      log,
      leaseSeconds,
      // It goes on where it ended: nothing is won by waiting.
      graceSeconds: 0,
      // Once, and not again: what is mounted there may be gone later.
      prepare: () => mkdir(options.publish.area, { recursive: true }).catch(() => undefined),
      look: () => this.look(),
      renew: (items) => renewWork(db, items, leaseSeconds),
      onChange,
    });
  }

  start(): void {
    this.leased.start();
  }

  ring(): void {
    this.leased.ring();
  }

  async stop(): Promise<void> {
    await this.leased.stop();
  }

  private async look(): Promise<number> {
    const { db, jobs, publish, onChange } = this.o;
    // An area that is not mounted holds nothing: that must not be taken for lost copies.
    await stat(publish.area);
    const moved = await advancePublications({ db, jobs, isThere });
    if (moved > 0) onChange();
    return moved + (await this.take()) + (await this.cleanUp());
  }

  private async take(): Promise<number> {
    const free = atOnce - this.leased.inHand.size;
    if (free <= 0 || this.leased.isDraining) return 0;
    const claims = await claimPublications(this.o.db, this.o.name, this.o.leaseSeconds, free);
    for (const claim of claims) {
      const abort = new AbortController();
      const item: InHand = { claim, abort, signal: abort.signal, bytes: 0 };
      this.leased.hold(claim.id, item, () => this.work(item));
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

  /** Removes what publications that are over have left, on disk and in mass stores that can; what is published stays. */
  private async cleanUp(): Promise<number> {
    const { db, log } = this.o;
    if (Date.now() < this.removeAt || (await untidied(db, [], 1)).length === 0) return 0;
    const stores = await removingStores(db, this.o.stores);
    const ids = [...stores.keys()];
    let cleaned = 0;
    for (const { id } of await untidied(db, ids, 200)) {
      // What is in hand here is being given up: it comes when it is.
      if (this.leased.inHand.has(id)) continue;
      try {
        const { kept, copies, isSettled } = await giveUpLeftovers(db, id, ids);
        await tidy(join(this.o.publish.area, `p${id}`), kept);
        await removeCopies(stores, copies);
        if (!isSettled) continue;
        await recordCleaned(db, id);
        cleaned += 1;
      } catch (error) {
        this.removeAt = Date.now() + removeAgainMs;
        log.warn(
          { publication: id, error: messageOf(error) },
          'publication: not all can be removed now',
        );
      }
    }
    return cleaned;
  }
}

async function tidy(folder: string, kept: readonly string[]): Promise<void> {
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
