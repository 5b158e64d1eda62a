import { Arg, Ctx, FieldResolver, Int, Query, Resolver, Root } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { afterOptions, toConnection, type Connection } from '../api/connection.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import {
  eventConditions,
  listEvents,
  seenFacts,
  writePlace,
  type EventOrder as OrderName,
  type EventRow,
} from './events.queries.ts';
import { Json } from '../api/scalars.ts';
import { EventConnection, EventFilter, EventOrder, EventType } from './events.schema.ts';

const eventsFirst = { nullable: true, defaultValue: 100, description: 'Lines a page.' };

@Resolver(() => EventType)
export class EventResolver {
  @Query(() => EventConnection, {
    description:
      'The log, as far as you may see it; oldest first, if nothing else is said. The cursors are those of the subscriptions. ' +
      'INVALID_CURSOR, CURSOR_TOO_OLD.',
  })
  async events(
    @Ctx() { db, viewer, means }: Context,
    @Arg('filter', () => EventFilter, { nullable: true, description: 'Which lines.' })
    filter: EventFilter | null,
    @Arg('orderBy', () => EventOrder, {
      nullable: true,
      description: 'OLDEST_FIRST, if not given. Backwards, after = older than this cursor.',
    })
    orderBy: OrderName | null,
    @Arg('first', () => Int, eventsFirst) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<EventRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const asked = eventConditions(viewer, filter ?? {});
    return toConnection(
      await listEvents(db.fork(), means.epoch, asked, page, orderBy ?? 'OLDEST_FIRST'),
    );
  }

  @FieldResolver(() => String, {
    description: 'Its place in the log: give it as after to go on from here.',
  })
  cursor(@Ctx() { means }: Context, @Root() event: EventRow): string {
    return writePlace(means.epoch, event);
  }

  @FieldResolver(() => Json, {
    description: 'What else belongs to it: attempt, worker, counts, evidence of a failure.',
  })
  facts(@Ctx() { viewer }: Context, @Root() event: EventRow): unknown {
    return seenFacts(viewer, event);
  }
}
