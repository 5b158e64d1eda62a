import { Arg, Ctx, FieldResolver, Resolver, Root, Subscription } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { follow } from '../api/subscription.ts';
import { writePlace, type EventRow } from '../events/events.queries.ts';
import { datasetFits, type BadMarkRow, type DatasetRow } from './datasets.queries.ts';
import { loadBadMarks, loadDatasets } from './datasets.resolver.ts';
import {
  BadMark,
  DatasetEventFilter,
  DatasetStatus,
  DatasetStatusEvent,
  DatasetType,
} from './datasets.schema.ts';

const told = new Set<string>(['DATASET_STATUS', 'DATASET_MARKED_BAD', 'DATASET_CLEARED']);

interface FeedArguments {
  readonly filter?: DatasetEventFilter | null;
  readonly after?: string | null;
}

function wanted(event: EventRow, filter: DatasetEventFilter): boolean {
  return (
    told.has(event.kind) &&
    (filter.dataset == null || filter.dataset === event.datasetName) &&
    (filter.to == null || filter.to.some((status) => status === event.toState))
  );
}

@Resolver(() => DatasetStatusEvent)
export class DatasetFeedResolver {
  @Subscription(() => DatasetStatusEvent, {
    description:
      'Each change of state of datasets that you see, as it happens; with after, also those since that cursor. ' +
      'At least once, in order per dataset. INVALID_CURSOR, CURSOR_TOO_OLD.',
    subscribe: ({ args, context }) => {
      const { filter, after } = args as FeedArguments;
      const { db, viewer } = context as Context;
      return follow(context as Context, after, {
        wants: (event) => wanted(event, filter ?? {}),
        // Seen when the line was read is not seen now: it may have been marked bad since.
        fits: async (event) =>
          event.datasetId !== null && datasetFits(db.fork(), viewer, event.datasetId, filter ?? {}),
      });
    },
  })
  datasetStatusChanged(
    @Root() event: EventRow,
    @Arg('filter', () => DatasetEventFilter, {
      nullable: true,
      description: 'Which datasets and states.',
    })
    _filter: DatasetEventFilter | null,
    @Arg('after', () => String, {
      nullable: true,
      description: 'Cursor of the last event that you have.',
    })
    _after: string | null,
  ): EventRow {
    return event;
  }

  @FieldResolver(() => String, { description: 'Give it as after to go on from here.' })
  cursor(@Ctx() { means }: Context, @Root() event: EventRow): string {
    return writePlace(means.epoch, event);
  }

  @FieldResolver(() => DatasetType, { description: 'The dataset, as it is now.' })
  async dataset(@Ctx() context: Context, @Root() event: EventRow): Promise<DatasetRow | undefined> {
    return event.datasetId === null ? undefined : context.load(loadDatasets, event.datasetId);
  }

  @FieldResolver(() => DatasetStatus, {
    nullable: true,
    description: 'State before; none for a new one.',
  })
  from(@Root() event: EventRow): string | null {
    return event.fromState;
  }

  @FieldResolver(() => DatasetStatus, {
    description: 'State after; the same as before when it was marked bad or cleared.',
  })
  to(@Root() event: EventRow): string | null {
    return event.toState;
  }

  @FieldResolver(() => BadMark, { nullable: true, description: 'The mark that it carries now.' })
  async badMark(@Ctx() context: Context, @Root() event: EventRow): Promise<BadMarkRow | undefined> {
    return event.datasetId === null ? undefined : context.load(loadBadMarks, event.datasetId);
  }
}
