import { Ctx, FieldResolver, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import type { RunRow } from '../runs/runs.queries.ts';
import { RunType } from '../runs/runs.schema.ts';
import { productionOf } from './run-production.queries.ts';
import { streamState, waits } from './run-production.rules.ts';
import { RunProduction } from './run-production.schema.ts';

async function loadProduction(context: Context, ids: readonly number[]) {
  return inOrder(ids, await productionOf(context.db.fork(), ids), (row) => row.runId);
}

@Resolver(() => RunType)
export class RunProductionResolver {
  @FieldResolver(() => RunProduction, {
    nullable: true,
    description:
      'How far its production is: which streams are written, merged and backed up, and what it waits for. ' +
      'For producers and operators; null for others.',
  })
  async production(
    @Ctx() context: Context,
    @Root() run: RunRow,
  ): Promise<RunProduction | undefined> {
    const row = await context.load(loadProduction, run.id);
    return (
      row && {
        streams: row.streams.map((files) => ({ ...files, state: streamState(files) })),
        waitingFor: waits(row, row.streams),
      }
    );
  }
}
