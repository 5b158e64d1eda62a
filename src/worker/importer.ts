import { mkdir, rm, stat } from 'node:fs/promises';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import { advanceImports } from '../imports/advance.service.ts';
import {
  announcePlacing,
  claimFetches,
  failFetch,
  recordBrought,
  renewFetches,
  type FetchClaim,
} from '../imports/fetches.service.ts';
import {
  broughtByCancelled,
  forgetBrought,
  giveUpBrought,
  overFiles,
} from '../imports/imports.service.ts';
import { discardForgotten } from '../imports/receive.service.ts';
import {
  fetchImport,
  isThere,
  listParts,
  partFolder,
  removeBrought,
} from '../storage/fetch-import.ts';
import type { OpenStores } from '../storage/open.ts';
import { sourceOf, type ImportSettings } from '../storage/import-sources.ts';
import { LeasedWork, stopped } from './leased-work.ts';
import type { WorkerLog } from './log.ts';
import { removeAgainMs, removeCopies, removingStores, type RemovingStores } from './removing.ts';

export interface ImportOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly imports: ImportSettings;
  readonly log: WorkerLog;
  /** As it stands in events. */
  readonly name: string;
  /** Of this host: where the volume of imports is. */
  readonly site: string;
  readonly concurrency: number;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly shutdownSeconds: number;
  readonly onChange: () => void;
}

interface InHand {
  readonly claim: FetchClaim;
  readonly abort: AbortController;
  bytes: number;
}

const pollMs = 1000;
const tidyMs = 3_600_000;
const noStores: RemovingStores = new Map();

/**
 * Fetches what imports wait for, moves imports on, and removes what cancelled ones brought. Its work is in the tables:
 * a claim is one statement with a lease, and what a dead worker left is claimed again when its lease is over.
 */
export class ImportWorker {
  private readonly o: ImportOptions;
  private readonly leased: LeasedWork<InHand>;
  private advanceAt = 0;
  private tidyAt = 0;
  private removeAt = 0;

  constructor(options: ImportOptions) {
    this.o = options;
    const { db, log, leaseSeconds, onChange } = options;
    this.leased = new LeasedWork<InHand>({
      what: 'import',
      log,
      leaseSeconds,
      // It goes on where it ended: nothing is won by waiting.
      graceSeconds: 0,
      // Once, and not again: what is mounted there may be gone later.
      prepare: () =>
        mkdir(partFolder(options.imports.area), { recursive: true }).catch(() => undefined),
      look: async () =>
        (await this.advance()) + (await this.takeFetches()) + (await this.cleanUp()),
      renew: (items) => renewFetches(db, items, leaseSeconds),
      onChange,
      // A look that is not due yet comes when its time has come.
      pauseMs: () => Math.min(pollMs, Math.max(this.advanceAt - Date.now(), 0) || pollMs),
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

  /** A look at an import of a million files takes a while: then there are fewer looks. */
  private async advance(): Promise<number> {
    if (Date.now() < this.advanceAt) return 0;
    const { db, jobs, imports } = this.o;
    // An area that is not mounted holds nothing: that must not be taken for lost copies.
    await stat(partFolder(imports.area));
    const begunAt = Date.now();
    const moved = await advanceImports({ db, jobs, isThere });
    this.advanceAt = Date.now() + 5 * (Date.now() - begunAt);
    if (moved > 0) this.o.onChange();
    return moved;
  }

  private async takeFetches(): Promise<number> {
    const free = this.o.concurrency - this.leased.inHand.size;
    if (free <= 0 || this.leased.isDraining) return 0;
    const claims = await claimFetches(this.o.db, this.o.name, this.o.leaseSeconds, free);
    for (const claim of claims) {
      const item: InHand = { claim, abort: new AbortController(), bytes: 0 };
      this.leased.hold(claim.id, item, () => this.work(item));
    }
    return claims.length;
  }

  private async work(item: InHand): Promise<void> {
    const { claim, abort } = item;
    const { db, jobs, imports, log, site } = this.o;
    const facts = { import: claim.importId, lfn: claim.lfn, attempt: claim.attempt };
    try {
      const { path, from } = await fetchImport({
        ...claim,
        source: sourceOf(imports, claim.sourceSite),
        area: imports.area,
        xrootd: imports.xrootd,
        signal: abort.signal,
        onProgress: (bytes) => (item.bytes = bytes),
        announce: (place) => announcePlacing(db, claim, place),
      });
      await recordBrought(db, jobs, claim, { path, from, site, volume: imports.volume });
      log.info({ ...facts, from }, 'import: a file is here');
    } catch (error) {
      await this.failed(item, error, facts);
    }
  }

  private async failed({ claim, abort }: InHand, error: unknown, facts: object): Promise<void> {
    const { db, log, retryBaseMs } = this.o;
    const isInnocent = abort.signal.aborted && abort.signal.reason === stopped;
    const refusal =
      error instanceof SweepbookError ? error : new SweepbookError('INTERNAL', messageOf(error));
    if (refusal.code === 'LEASE_LOST') {
      log.warn({ ...facts, reason: refusal.message }, 'import: overtaken, or called off');
      this.tidyAt = 0;
      return;
    }
    const { code, message } = refusal;
    try {
      const next = await failFetch(db, claim, { code, message, isInnocent }, retryBaseMs);
      if (!isInnocent)
        log.warn({ ...facts, code, reason: message, next }, 'import: a file could not be fetched');
    } catch (failure) {
      // The lease runs out, and the file is taken again.
      log.warn({ ...facts, error: messageOf(failure) }, 'import: could not be recorded');
    }
  }

  /** Removes what cancelled imports brought, and parts that nobody goes on with. */
  private async cleanUp(): Promise<number> {
    const { db, imports } = this.o;
    if (Date.now() < this.removeAt) return 0;
    const isNothing = (await broughtByCancelled(db, [], 1)).length === 0;
    const stores = isNothing ? noStores : await removingStores(db, this.o.stores);
    const ids = [...stores.keys()];
    const brought = isNothing ? [] : await broughtByCancelled(db, ids, 200);
    const gone: number[] = [];
    try {
      for (const file of brought) {
        const { isKept, copies } = await giveUpBrought(db, file, ids);
        if (!isKept) await removeBrought(imports.area, file.path);
        await removeCopies(stores, copies);
        gone.push(file.id);
      }
    } catch (error) {
      // A store that is away from here, for one: later, or by another worker.
      this.removeAt = Date.now() + removeAgainMs;
      this.o.log.warn({ error: messageOf(error) }, 'import: not all can be removed now');
    }
    if (gone.length > 0) await forgetBrought(db, gone);
    if (gone.length > 0 || Date.now() - this.tidyAt > tidyMs) await this.tidyParts();
    return gone.length;
  }

  private async tidyParts(): Promise<void> {
    const { db, imports } = this.o;
    this.tidyAt = Date.now();
    await discardForgotten(db);
    const parts = (await listParts(imports.area)).filter(
      (part) => !this.leased.inHand.has(part.id),
    );
    const over = new Set(
      await overFiles(
        db,
        parts.map((part) => part.id),
      ),
    );
    for (const part of parts) if (over.has(part.id)) await rm(part.path, { force: true });
  }
}
