import { seesEvent } from '../access/visibility.ts';
import { readPlace, type EventRow } from '../events/events.queries.ts';
import type { Context } from './context.ts';

export interface Following {
  /** Cheap: from the line alone. */
  readonly wants: (event: EventRow) => boolean;
  /** May ask the database. */
  readonly fits?: (event: EventRow) => Promise<boolean>;
}

/**
 * The lines of the log that somebody follows: those he may see and wants. The place is checked
 * before the first one, so that a wrong cursor is a refusal and not a silent end.
 */
export function follow(
  context: Context,
  after: string | null | undefined,
  { wants, fits }: Following,
): AsyncIterableIterator<EventRow> {
  const { means, viewer } = context;
  const place = after == null ? undefined : readPlace(means.epoch, after);
  const isSeen = (event: EventRow) =>
    seesEvent(viewer, {
      kind: event.kind,
      dataset:
        event.datasetOwner === null
          ? undefined
          : {
              isAvailable: event.datasetIsAvailable === true,
              owner: event.datasetOwner,
              sharedWith: event.datasetSharedWith,
            },
      privateOwner: event.privateOwner,
      runIsAvailable: event.runStatus === 'AVAILABLE',
      isOfContainer: event.containerId !== null,
    });
  return closable(async function* (signal) {
    const lines = means.feed.follow(place, (event) => wants(event) && isSeen(event), signal);
    for await (const event of lines) {
      if (!fits || (await fits(event))) yield event;
    }
  });
}

/** A generator that ends when its reader goes: one that sleeps does not hear return(), the signal wakes it. */
export function closable<T>(
  make: (signal: AbortSignal) => AsyncGenerator<T, void, void>,
): AsyncIterableIterator<T> {
  const abort = new AbortController();
  const inner = make(abort.signal);
  return {
    next: () => inner.next(),
    async return() {
      abort.abort();
      return inner.return();
    },
    async throw(error: unknown) {
      abort.abort();
      return inner.throw(error);
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
