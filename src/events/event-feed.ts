import type { Db } from '../database/orm.ts';
import { messageOf } from '../errors.ts';
import { currentPlace, eventsAfter, type EventRow, type Place } from './events.queries.ts';

export function isAfter(a: Place, b: Place): boolean {
  if (a.xid === b.xid) return a.id > b.id;
  // Numbers of 64 bits without leading zeros: the longer one is the larger one.
  return a.xid.length === b.xid.length ? a.xid > b.xid : a.xid.length > b.xid.length;
}

/** Who has read all that there is, up to a place, and waits for more. */
interface Sleeper {
  at: Place;
  readonly wants: (line: EventRow) => boolean;
  readonly wakeUp: () => void;
}

const pollMs = 1000;
/** Rings that come closer than this are answered together. */
const leastGapMs = 20;
const pageSize = 500;
/** Lines kept in memory for those who follow closely; who falls behind reads the table again. */
const keptLines = 5000;

/**
 * The live end of the log: one reader per process, however many follow. A follower
 * pulls at its own pace, and one that is slow is served from the table: never skipped.
 */
export class EventFeed {
  private recent: EventRow[] = [];
  /** All settled lines after `floor` up to `head` are in `recent`. */
  private floor: Place = { xid: '0', id: 0 };
  private head: Place = { xid: '0', id: 0 };
  private timer: NodeJS.Timeout | undefined;
  /** Questions of followers, under way. */
  private readonly asking = new Set<Promise<unknown>>();
  private reading: Promise<void> | undefined;
  private ringAgain = false;
  private readAt = 0;
  private closed = false;
  private readonly sleepers = new Set<Sleeper>();
  private readonly db: Db;
  private readonly onTrouble: (message: string) => void;

  constructor(db: Db, onTrouble: (message: string) => void) {
    this.db = db;
    this.onTrouble = onTrouble;
  }

  async start(): Promise<void> {
    this.floor = this.head = await currentPlace(this.db.fork());
    this.schedule();
  }

  /** Look now: somebody said that there is something new. */
  ring(): void {
    if (this.closed) return;
    if (this.reading) {
      this.ringAgain = true;
      return;
    }
    clearTimeout(this.timer);
    const waitMs = this.readAt + leastGapMs - Date.now();
    if (waitMs > 0) {
      this.timer = setTimeout(() => this.ring(), waitMs);
      return;
    }
    this.readAt = Date.now();
    this.reading = this.read().finally(() => {
      this.reading = undefined;
      if (this.ringAgain) {
        this.ringAgain = false;
        this.ring();
      } else {
        this.schedule();
      }
    });
  }

  private schedule(): void {
    if (this.closed) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ring(), pollMs);
  }

  private async read(): Promise<void> {
    try {
      for (;;) {
        const page = await eventsAfter(this.db.fork(), this.head, pageSize);
        if (page.length === 0) return;
        this.keep(page);
        this.wake(page);
        if (page.length < pageSize) return;
      }
    } catch (error) {
      this.onTrouble(messageOf(error));
    }
  }

  private keep(page: EventRow[]): void {
    this.recent.push(...page);
    this.head = page.at(-1) ?? this.head;
    if (this.recent.length > 2 * keptLines) {
      const dropped = this.recent.splice(0, this.recent.length - keptLines);
      this.floor = dropped.at(-1) ?? this.floor;
    }
  }

  /** A thousand follow one dataset each: who wants none of the lines sleeps on, and has passed them. */
  private wake(page: readonly EventRow[]): void {
    for (const sleeper of this.sleepers) {
      if (page.some((line) => isWanted(sleeper, line))) sleeper.wakeUp();
      else if (isAfter(this.head, sleeper.at)) sleeper.at = this.head;
    }
  }

  /** Index in `recent` of the first line after the place. */
  private indexAfter(place: Place): number {
    let low = 0;
    let high = this.recent.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const line = this.recent[middle];
      if (line && isAfter(line, place)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /**
   * All lines after a place that are wanted, in order, for as long as the signal
   * is not aborted: first what has been, then what comes. No place = from now on.
   */
  async *follow(
    after: Place | undefined,
    wants: (line: EventRow) => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<EventRow, void, void> {
    if (this.closed) return;
    let at = after ?? (await this.ask(currentPlace(this.db.fork())));
    while (!signal.aborted && !this.closed) {
      const floor = this.floor;
      if (isAfter(floor, at)) {
        const page = await this.ask(eventsAfter(this.db.fork(), at, pageSize));
        for (const line of page) {
          if (signal.aborted) return;
          at = line;
          if (wants(line)) yield line;
        }
        // All up to the floor as it was had settled before we read.
        if (page.length < pageSize && isAfter(floor, at)) at = floor;
        continue;
      }
      const line = this.recent[this.indexAfter(at)];
      if (line === undefined) {
        at = await this.sleep(at, wants, signal);
        continue;
      }
      at = line;
      if (wants(line)) yield line;
    }
  }

  /** Until there is a line after the place that may be wanted; answers up to where there is none. */
  private sleep(
    at: Place,
    wants: (line: EventRow) => boolean,
    signal: AbortSignal,
  ): Promise<Place> {
    return new Promise((resolve) => {
      const sleeper: Sleeper = {
        at,
        wants,
        wakeUp: () => {
          signal.removeEventListener('abort', sleeper.wakeUp);
          this.sleepers.delete(sleeper);
          resolve(sleeper.at);
        },
      };
      this.sleepers.add(sleeper);
      signal.addEventListener('abort', sleeper.wakeUp);
      if (signal.aborted) sleeper.wakeUp();
    });
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    for (const { wakeUp } of this.sleepers) wakeUp();
    await this.reading;
    // A pool that is closed while somebody waits for a connection would never end.
    await Promise.allSettled(this.asking);
  }

  private async ask<T>(question: Promise<T>): Promise<T> {
    this.asking.add(question);
    return question.finally(() => this.asking.delete(question));
  }
}

/** Whose question fails hears of it himself, and the others do not. */
function isWanted({ wants }: Sleeper, line: EventRow): boolean {
  try {
    return wants(line);
  } catch {
    return true;
  }
}
