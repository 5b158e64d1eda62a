import type { Db } from '../database/orm.ts';
import { messageOf } from '../errors.ts';
import {
  evictionIsMine,
  fateOf,
  markOf,
  recordEvicted,
  type Eviction,
} from '../pools/evictions.service.ts';
import type { PoolRow } from '../pools/pools.service.ts';
import { listAside, putBack, removeAside, setAside } from '../storage/pool-volume.ts';
import type { WorkerLog } from './log.ts';

export interface Evicting {
  readonly db: Db;
  readonly log: WorkerLog;
  readonly pool: PoolRow;
  /** As it stands in events. */
  readonly name: string;
  readonly leaseSeconds: number;
}

/**
 * Removes copies from a pool that were claimed then (performance.now). A worker may be frozen at any step, for longer
 * than its lease: what it takes off a name is looked up before it is removed, and put back if it came later.
 * Returns how many are gone, and how many were left to others.
 */
export async function removeEvicted(
  evicting: Evicting,
  due: readonly Eviction[],
  claimedAt: number,
): Promise<{ gone: number; left: number }> {
  const { db, log, pool, name, leaseSeconds } = evicting;
  const aside: Eviction[] = [];
  let seen = 0;
  for (const item of due) {
    // Late, somebody else has it, and the file may be there anew.
    if (!evictionIsMine(claimedAt, leaseSeconds)) break;
    seen++;
    try {
      await setAside(pool, item.path, markOf(item));
      aside.push(item);
    } catch (error) {
      // Tried again when its lease is over.
      log.warn({ path: item.path, error: messageOf(error) }, 'pool: will be removed later');
    }
  }
  const settled = await settle(evicting, aside.map(markOf));
  const gone = aside.filter((item) => settled.has(markOf(item)));
  const left = due.slice(seen);
  await recordEvicted(db, pool.id, name, gone, left);
  return { gone: gone.length, left: left.length };
}

/** What workers that died have left between two steps. */
export async function settleLeftAside(evicting: Evicting): Promise<void> {
  await settle(evicting, await listAside(evicting.pool));
}

/** Returns those that were removed. */
async function settle(
  { db, log, pool, name }: Evicting,
  marks: readonly string[],
): Promise<Set<string>> {
  const removed = new Set<string>();
  if (marks.length === 0) return removed;
  for (const item of await fateOf(db, name, marks)) {
    const mark = markOf(item);
    if (item.fate === 'REMOVE') {
      await removeAside(pool, item.path, mark);
      removed.add(mark);
    } else if (item.fate === 'PUT_BACK') {
      await putBack(pool, item.path, mark);
      log.warn({ path: item.path }, 'pool: evicted too late, and put back');
    }
  }
  return removed;
}
