import type pg from 'pg';

/**
 * A connection costs PostgreSQL a process, and its first statements all that a process must first learn: more than a
 * moment of waiting for one that is about to be free.
 */
const patienceMs = 25;
/** So many are opened as soon as they are asked for. */
const atOnce = 2;
/** One that takes longer to open holds up no other: PostgreSQL may be out of reach, and all should hear of it soon. */
const slowOpeningMs = 100;

interface Waiting {
  readonly since: number;
  readonly go: () => void;
}

/**
 * Lets a pool grow with what it has to do, and not with how many ask in the same moment: who finds no connection free
 * waits for the next one, and opens one more only when none was for a while; one after another.
 */
export function growSlowly(pool: pg.Pool): void {
  const connect = pool.connect.bind(pool) as () => Promise<pg.PoolClient>;
  const waiting: Waiting[] = [];
  let timer: NodeJS.Timeout | undefined;
  let opening = 0;
  let openedAt = 0;

  const open = async (): Promise<pg.PoolClient> => {
    if (pool.idleCount > 0 || pool.totalCount >= pool.options.max) return connect();
    opening++;
    openedAt = performance.now();
    try {
      return await connect();
    } finally {
      opening--;
      wake();
    }
  };
  /** Lets as many go on as there are free connections for, and one that has waited long enough. */
  const look = () => {
    clearTimeout(timer);
    timer = undefined;
    for (let free = Math.max(pool.idleCount - pool.waitingCount, 0); free > 0; free--) {
      waiting.shift()?.go();
    }
    const [first] = waiting;
    if (first === undefined) return;
    const due = Math.max(first.since + patienceMs, opening > 0 ? openedAt + slowOpeningMs : 0);
    const waitMs = pool.ending ? 0 : due - performance.now();
    if (waitMs <= 0) waiting.shift()?.go();
    if (waiting.length > 0) timer = setTimeout(look, Math.max(waitMs, 1));
  };
  // When the pool tells of it, the connection is not yet back.
  const wake = () => setImmediate(look);
  pool.on('release', wake);
  pool.on('remove', wake);

  const patient = async (): Promise<pg.PoolClient> => {
    const isFree = pool.idleCount > pool.waitingCount && waiting.length === 0;
    if (!isFree && pool.totalCount >= atOnce && pool.totalCount < pool.options.max) {
      await new Promise<void>((resolve) => {
        waiting.push({ since: performance.now(), go: resolve });
        look();
      });
    }
    return open();
  };
  pool.connect = patient as typeof pool.connect;
}
