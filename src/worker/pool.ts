import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import {
  claimPoolCopies,
  failPoolCopy,
  recordOnline,
  renewPoolCopies,
  type PoolClaim,
} from '../pools/copies.service.ts';
import { claimEvictions, keepLimit } from '../pools/evictions.service.ts';
import { listPools, poolsHere, preparePoolOnce, type PoolRow } from '../pools/pools.service.ts';
import type { Evidence } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';
import { bringIntoPool } from '../storage/pool-volume.ts';
import { deadlineMs, inTime } from './check.ts';
import { removeEvicted, settleLeftAside } from './evicting.ts';
import { LeasedWork, stopped } from './leased-work.ts';
import type { WorkerLog } from './log.ts';

export interface PoolOptions {
  readonly db: Db;
  readonly stores: OpenStores;
  readonly log: WorkerLog;
  /** As it stands in events. */
  readonly name: string;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly shutdownSeconds: number;
  readonly onChange: () => void;
}

interface InHand {
  readonly claim: PoolClaim;
  readonly abort: AbortController;
  bytes: number;
}

const mostEvictions = 200;
/** How often it is looked for what died between two steps of an eviction. */
const settleMs = 60_000;

/**
 * Brings copies into the pools that this host has mounted, and removes what makes room. Its work is in the tables: a
 * claim is one transaction with a lease, and what a dead worker left is claimed again when its lease is over.
 */
export class PoolWorker {
  private readonly o: PoolOptions;
  private readonly leased: LeasedWork<InHand>;
  private readonly told = new Set<string>();
  private readonly settledAt = new Map<number, number>();

  constructor(options: PoolOptions) {
    this.o = options;
    const { db, log, leaseSeconds, shutdownSeconds, onChange } = options;
    this.leased = new LeasedWork<InHand>({
      what: 'pool',
      log,
      leaseSeconds,
      graceSeconds: shutdownSeconds,
      look: () => this.look(),
      renew: (items) => renewPoolCopies(db, items, leaseSeconds),
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
    const { db, log } = this.o;
    for (const pool of await listPools(db.fork())) {
      const why = await preparePoolOnce(db, pool);
      if (why === undefined || this.told.has(pool.name)) continue;
      this.told.add(pool.name);
      log.warn({ pool: pool.name, why }, 'pool: cannot be prepared yet, will try again');
    }
    let did = 0;
    for (const pool of await poolsHere(db)) {
      if (this.leased.isDraining) break;
      did += await keepLimit(db, pool, this.o.name);
      did += await this.take(pool);
      did += await this.evict(pool);
    }
    return did;
  }

  private async take(pool: PoolRow): Promise<number> {
    const mine = [...this.leased.inHand.values()].filter(
      ({ claim }) => claim.pool.id === pool.id,
    ).length;
    const free = pool.concurrency - mine;
    if (free <= 0) return 0;
    const { db, name, leaseSeconds } = this.o;
    const claims = await claimPoolCopies(db, pool, name, leaseSeconds, free);
    for (const claim of claims) {
      const item: InHand = { claim, abort: new AbortController(), bytes: 0 };
      this.leased.hold(claim.copyId, item, () => this.bring(item));
    }
    return claims.length;
  }

  private async bring(item: InHand): Promise<void> {
    const { claim, abort } = item;
    const { db, stores, log } = this.o;
    const { lfn, pool, copy, path, expected, copyId, attempt } = claim;
    const facts = { lfn, pool: pool.name, attempt };
    try {
      const row = (await listMassStores(db)).find((store) => store.id === copy.storeId);
      if (!row) throw new Error(`no mass store ${copy.storeId}`);
      const answer = await inTime(deadlineMs(expected.sizeBytes), abort, (signal) => {
        const options = { signal, onProgress: (bytes: number) => (item.bytes = bytes) };
        const { key } = copy;
        return bringIntoPool({
          pool,
          store: stores.of(row),
          key,
          path,
          expected,
          copyId,
          attempt,
          options,
        });
      });
      await recordOnline(db, claim, answer);
      log.info({ ...facts, from: row.name }, 'pool: a copy is online');
    } catch (error) {
      await this.failed(claim, error, facts);
    }
  }

  private async failed(claim: PoolClaim, error: unknown, facts: object): Promise<void> {
    const { db, log, retryBaseMs } = this.o;
    const isInnocent = error === stopped;
    const refusal =
      error instanceof SweepbookError ? error : new SweepbookError('INTERNAL', messageOf(error));
    const { code, message } = refusal;
    if (code === 'LEASE_LOST') {
      log.warn({ ...facts, reason: message }, 'pool: overtaken, its result is thrown away');
      return;
    }
    const evidence = refusal.facts['evidence'] as Evidence | undefined;
    try {
      const failure = { code, message, evidence, isInnocent };
      const next = await failPoolCopy(db, claim, failure, retryBaseMs);
      log.warn({ ...facts, code, reason: message, next }, 'pool: a copy could not be made');
    } catch (failure) {
      // The lease runs out, and the copy is taken again.
      log.warn({ ...facts, error: messageOf(failure) }, 'pool: could not be recorded');
    }
  }

  private async evict(pool: PoolRow): Promise<number> {
    const { db, log, name, leaseSeconds, onChange } = this.o;
    const claimedAt = performance.now();
    const due = await claimEvictions(db, pool.id, name, leaseSeconds, mostEvictions);
    const evicting = { db, log, pool, name, leaseSeconds };
    if (Date.now() - (this.settledAt.get(pool.id) ?? 0) > settleMs) {
      this.settledAt.set(pool.id, Date.now());
      await settleLeftAside(evicting);
    }
    if (due.length === 0) return 0;
    const { gone, left } = await removeEvicted(evicting, due, claimedAt);
    if (gone > 0) {
      log.info({ pool: pool.name, count: gone }, 'pool: copies made room');
      onChange();
    }
    return gone + left;
  }
}
