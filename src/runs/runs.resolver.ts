import {
  Arg,
  Ctx,
  FieldResolver,
  ID,
  Int,
  Mutation,
  Query,
  Resolver,
  Root,
  Subscription,
} from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { countOutcomes } from '../api/inputs.ts';
import { nodeName, writeNodeId } from '../api/node.ts';
import { follow } from '../api/subscription.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { writePlace, type EventRow } from '../events/events.queries.ts';
import { eventConditions, listEvents } from '../events/events.queries.ts';
import { EventConnection, EventType } from '../events/events.schema.ts';
import {
  findRun,
  listRuns,
  runFits,
  runsByIds,
  type RunOrder as OrderName,
  type RunRow,
} from './runs.queries.ts';
import type { RunSource as SourceName } from './runs.rules.ts';
import {
  RegisterRunsInput,
  RegisterRunsPayload,
  RunConnection,
  RunEvent,
  RunFilter,
  RunOrder,
  RunPayload,
  RunResult,
  RunSource,
  RunType,
  RunVerdictInput,
} from './runs.schema.ts';
import { registerRuns, setRunVerdict, type RunOutcome } from './runs.service.ts';

/** The run of this row number, if the viewer may know of it. */
export async function loadRuns(context: Context, ids: readonly number[]) {
  return inOrder(ids, await runsByIds(context.db.fork(), context.viewer, ids), (run) => run.id);
}

@Resolver(() => RunType)
export class RunResolver {
  @Query(() => RunType, {
    nullable: true,
    description:
      'The run of this number; null = not registered, or in production and not for you to know.',
  })
  async run(
    @Ctx() { db, viewer }: Context,
    @Arg('number', () => Int, { description: 'Run number.' }) number: number,
    @Arg('source', () => RunSource, {
      nullable: true,
      defaultValue: 'DATA',
      description: 'Detector or simulation.',
    })
    source: SourceName | null,
  ): Promise<RunRow | undefined> {
    return findRun(db.fork(), viewer, number, source ?? 'DATA');
  }

  @Query(() => RunConnection, {
    description: 'Runs by source and number; without a status, AVAILABLE ones.',
  })
  async runs(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => RunFilter, { nullable: true, description: 'Which runs.' })
    filter: RunFilter | null,
    @Arg('orderBy', () => RunOrder, {
      nullable: true,
      description:
        'By NUMBER, if not given; by AVAILABLE_AT_DESC, if the filter is on availableAt.',
    })
    orderBy: OrderName | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<RunRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(
      await listRuns(db.fork(), viewer, filter ?? {}, page, orderBy ?? undefined),
    );
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() run: RunRow): string {
    return writeNodeId('Run', run.id);
  }

  @FieldResolver(() => EventConnection, {
    description: 'All that ever happened to it, oldest first.',
  })
  async history(
    @Ctx() { db, viewer, means }: Context,
    @Root() run: RunRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<EventRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const where = eventConditions(viewer, { runId: run.id });
    return toConnection(await listEvents(db.fork(), means.epoch, where, page));
  }

  @Mutation(() => RegisterRunsPayload, {
    description:
      'Registers runs, or tells what is new about known ones. One answer for each; a refused one does not ' +
      'hinder the others. What was told and is told differently is refused (DUPLICATE). For producers.',
  })
  async registerRuns(
    @Ctx() { db, viewer, means }: Context,
    @Arg('input', () => RegisterRunsInput, { description: 'The runs.' }) input: RegisterRunsInput,
  ) {
    const results = await registerRuns(db, viewer, input.runs, input.idempotencyKey);
    means.ring();
    return { results, ...countOutcomes(results) };
  }

  @Mutation(() => RunPayload, {
    description:
      "DQM's word on a run that is AVAILABLE. NOT_FOUND, ILLEGAL_TRANSITION (still in production).",
  })
  async setRunVerdict(
    @Ctx() context: Context,
    @Arg('input', () => RunVerdictInput, { description: 'The run and the word.' })
    input: RunVerdictInput,
  ) {
    const { runId, changed } = await setRunVerdict(context.db, context.viewer, input);
    context.means.ring();
    return { run: await context.load(loadRuns, runId), changed };
  }
}

@Resolver(() => RunResult)
export class RunResultResolver {
  @FieldResolver(() => RunType, { nullable: true, description: 'The run, unless it was refused.' })
  async run(@Ctx() context: Context, @Root() result: RunOutcome): Promise<RunRow | undefined> {
    return result.runId === undefined ? undefined : context.load(loadRuns, result.runId);
  }
}

@Resolver(() => EventType)
export class EventRunResolver {
  @FieldResolver(() => RunType, { nullable: true, description: 'The run that it is about.' })
  async run(@Ctx() context: Context, @Root() event: EventRow): Promise<RunRow | undefined> {
    return event.runId === null ? undefined : context.load(loadRuns, event.runId);
  }
}

interface RunFeedArguments {
  readonly filter?: RunFilter | null;
  readonly after?: string | null;
}

@Resolver(() => RunEvent)
export class RunEventResolver {
  @Subscription(() => RunEvent, {
    description:
      'Each run that leaves production, as it happens; with after, also those since that cursor. ' +
      'At least once, in order. INVALID_CURSOR, CURSOR_TOO_OLD.',
    subscribe: ({ args, context }) =>
      follow(context as Context, (args as RunFeedArguments).after, {
        wants: (event) => event.kind === 'RUN_STATUS' && event.toState === 'AVAILABLE',
        fits: async (event) => {
          const { db, viewer } = context as Context;
          const filter = (args as RunFeedArguments).filter ?? {};
          return event.runId !== null && runFits(db.fork(), viewer, event.runId, filter);
        },
      }),
  })
  runBecameAvailable(
    @Root() event: EventRow,
    @Arg('filter', () => RunFilter, { nullable: true, description: 'Which runs.' })
    _filter: RunFilter | null,
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

  @FieldResolver(() => RunType, { description: 'The run, as it is now.' })
  async run(@Ctx() context: Context, @Root() event: EventRow): Promise<RunRow | undefined> {
    return event.runId === null ? undefined : context.load(loadRuns, event.runId);
  }
}

/** For `node(id)`. */
export async function findRunNode(context: Context, id: number) {
  const run = await context.load(loadRuns, id);
  return run && { ...run, [nodeName]: 'Run' as const };
}
