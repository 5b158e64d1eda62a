import pg from 'pg';
import { messageOf } from '../errors.ts';
import type { Db } from './orm.ts';
import { rows, sql } from './sql.ts';

/**
 * NOTIFY as a doorbell: rung after a commit, from one coalescing place, because a
 * NOTIFY inside a transaction makes all commits of the cluster queue. It carries
 * nothing; the table is the truth, and a slow poll stands behind it.
 */
const channel = 'sweepbook_events';
const progressChannel = 'sweepbook_progress';
const leastGapMs = 50;

export class Doorbell {
  private timer: NodeJS.Timeout | undefined;
  private sending: Promise<void> = Promise.resolve();
  private lastRingAt = 0;
  private readonly db: Db;

  constructor(db: Db) {
    this.db = db;
  }

  /** Call after the commit; rings at most 20 times a second. */
  ring(): void {
    if (this.timer !== undefined) return;
    const wait = Math.max(0, this.lastRingAt + leastGapMs - Date.now());
    this.timer = setTimeout(() => {
      this.sending = this.send();
    }, wait);
    this.timer.unref();
  }

  private async send(): Promise<void> {
    this.timer = undefined;
    this.lastRingAt = Date.now();
    try {
      await rows(this.db.fork(), sql`select pg_notify(${channel}, '')`);
    } catch {
      // Nobody hears this ring; the listeners' poll finds what is there.
    }
  }

  /** Waits for a ring that is on its way: the pool would never end if it closed just as that got its connection. */
  async close(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    await this.sending;
  }
}

/** Tells how far copies have come, to whoever listens now; nothing depends on it. */
export async function notifyProgress(db: Db, payload: string): Promise<void> {
  await rows(db.fork(), sql`select pg_notify(${progressChannel}, ${payload})`);
}

export interface Listener {
  onRing(): void;
  onProgress(payload: string): void;
  onTrouble(message: string): void;
}

/** Calls `onRing` for each ring; connects again by itself when the connection is lost. */
export function listen(url: string, listener: Listener): { close(): Promise<void> } {
  let closed = false;
  let client: pg.Client | undefined;
  let again: NodeJS.Timeout | undefined;
  const connect = async (): Promise<void> => {
    const fresh = new pg.Client({
      connectionString: url,
      application_name: 'sweepbook-listen',
      keepAlive: true,
    });
    client = fresh;
    const retry = (error: unknown) => {
      if (closed || client !== fresh) return;
      client = undefined;
      listener.onTrouble(messageOf(error));
      void endQuietly(fresh);
      again = setTimeout(() => void connect(), 1000);
    };
    fresh.on('error', retry);
    fresh.on('end', () => retry(new Error('connection ended')));
    fresh.on('notification', (message) => {
      if (message.channel === channel) listener.onRing();
      else listener.onProgress(message.payload ?? '');
    });
    try {
      await fresh.connect();
      await fresh.query(`listen ${channel}; listen ${progressChannel}`);
      listener.onRing();
    } catch (error) {
      retry(error);
    }
  };
  void connect();
  return {
    async close() {
      closed = true;
      clearTimeout(again);
      if (client) await endQuietly(client);
    },
  };
}

async function endQuietly(client: pg.Client): Promise<void> {
  await client.end().catch(() => undefined);
}
