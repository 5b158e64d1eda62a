import { Arg, Ctx, FieldResolver, Resolver, Root, Subscription } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { follow } from '../api/subscription.ts';
import { writePlace, type EventRow } from '../events/events.queries.ts';
import { containerFits, type ChangeRow, type ContainerRow } from './containers.queries.ts';
import { loadChanges, loadContainers } from './containers.resolver.ts';
import {
  ContainerChange,
  ContainerEvent,
  ContainerEventFilter,
  ContainerType,
} from './containers.schema.ts';

interface FeedArguments {
  readonly filter?: ContainerEventFilter | null;
  readonly after?: string | null;
}

@Resolver(() => ContainerEvent)
export class ContainerFeedResolver {
  @Subscription(() => ContainerEvent, {
    description:
      'Each container that is created and each change of one, as it happens; with after, also those since that ' +
      'cursor. At least once, in order. INVALID_CURSOR, CURSOR_TOO_OLD.',
    subscribe: ({ args, context }) => {
      const { filter, after } = args as FeedArguments;
      return follow(context as Context, after, {
        wants: (event) => event.containerId !== null,
        fits: async (event) => {
          const { db, viewer } = context as Context;
          return (
            event.containerId !== null &&
            (filter == null || containerFits(db.fork(), viewer, event.containerId, filter))
          );
        },
      });
    },
  })
  containerChanged(
    @Root() event: EventRow,
    @Arg('filter', () => ContainerEventFilter, {
      nullable: true,
      description: 'Which containers.',
    })
    _filter: ContainerEventFilter | null,
    @Arg('after', () => String, {
      nullable: true,
      description: 'Cursor of the last event that you have.',
    })
    _after: string | null,
  ): EventRow {
    return event;
  }

  @FieldResolver(() => String, {
    description: 'Give it as after to go on from here; also a marker.',
  })
  cursor(@Ctx() { means }: Context, @Root() event: EventRow): string {
    return writePlace(means.epoch, event);
  }

  @FieldResolver(() => ContainerType, { description: 'The container, as it is now.' })
  async container(
    @Ctx() context: Context,
    @Root() event: EventRow,
  ): Promise<ContainerRow | undefined> {
    return event.containerId === null ? undefined : context.load(loadContainers, event.containerId);
  }

  @FieldResolver(() => ContainerChange, {
    nullable: true,
    description: 'The line of its history; null = it was created.',
  })
  async change(@Ctx() context: Context, @Root() event: EventRow): Promise<ChangeRow | undefined> {
    return event.kind === 'CONTAINER_CHANGED' ? context.load(loadChanges, event.id) : undefined;
  }
}
