import { Arg, Ctx, FieldResolver, Int, Query, Resolver, Root } from 'type-graphql';
import { seesRunFacts } from '../access/visibility.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { EventRow } from '../events/events.queries.ts';
import { listAvailable, verdictsOf, type VerdictRow } from './dqm.queries.ts';
import { RunEventConnection, RunVerdictChange } from './dqm.schema.ts';
import type { RunRow } from './runs.queries.ts';
import { RunFilter, RunType } from './runs.schema.ts';

async function loadVerdicts(context: Context, ids: readonly number[]): Promise<VerdictRow[][]> {
  const found = Map.groupBy(await verdictsOf(context.db.fork(), ids), (row) => row.runId);
  return ids.map((id) => found.get(id) ?? []);
}

@Resolver(() => RunType)
export class DqmResolver {
  @Query(() => RunEventConnection, {
    description:
      'Runs that left production, in the order in which they did, each with the run as it is now. Keep the last ' +
      'endCursor and ask again with it: nothing is missed, however late a transaction commits. The cursors are those ' +
      'of runBecameAvailable. INVALID_CURSOR, CURSOR_TOO_OLD.',
  })
  async runsAvailable(
    @Ctx() { db, viewer, means }: Context,
    @Arg('filter', () => RunFilter, { nullable: true, description: 'Which runs.' })
    filter: RunFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<EventRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listAvailable(db.fork(), means.epoch, viewer, filter ?? {}, page));
  }

  @FieldResolver(() => [RunVerdictChange], {
    description: 'What DQM said of it, oldest first: the last 100 words. All are in history.',
  })
  async verdicts(@Ctx() context: Context, @Root() run: RunRow): Promise<VerdictRow[]> {
    return seesRunFacts(context.viewer, run.productionStatus)
      ? context.load(loadVerdicts, run.id)
      : [];
  }
}
