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
import { LeasedWork, stopped } from './leased-work.ts';
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

/** Publications that one worker checks or merges at once: each reads from disk as fast as it can. */
const atOnce = 2;

/**
 * Checks and merges what is to be published, moves publications on, and removes what they leave behind. Its work is in
 * the tables: a claim is one statement with a lease, and what a dead worker left is claimed again when it is over.
 */
export class PublishWorker {
  private readonly o: PublishOptions;
  private readonly leased: LeasedWork<InHand>;

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

  /** Removes what publications that are over have left on disk; of published ones their files stay. */
  private async cleanUp(): Promise<number> {
    const left = await leftOnDisk(this.o.db, 20);
    // What is in hand here is being given up: it comes when it is.
    const idle = left.filter((publication) => !this.leased.inHand.has(publication.id));
    for (const publication of idle) {
      await giveUpCopies(this.o.db, publication.id);
      await tidy(join(this.o.publish.area, `p${publication.id}`), publication);
      await recordCleaned(this.o.db, publication.id);
    }
    return idle.length;
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
