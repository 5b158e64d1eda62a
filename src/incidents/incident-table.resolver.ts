import { Ctx, FieldResolver, Resolver, Root } from 'type-graphql';
import type { Context } from '../api/context.ts';
import type { IncidentRow } from './incidents.queries.ts';
import { IncidentType } from './incidents.schema.ts';
import { hitsOfIncident } from './hits.queries.ts';
import { lossTable, type LossTable } from './loss-table.queries.ts';
import { StorageLossTable } from './loss.schema.ts';

/** Run numbers as ranges, by source. */
function runLists(runs: LossTable['lostRuns']): { source: string; numbers: string }[] {
  return [...Map.groupBy(runs, (run) => run.source)].map(([source, of]) => {
    const ranges: [number, number][] = [];
    for (const { number } of of) {
      const last = ranges.at(-1);
      if (last && number === last[1] + 1) last[1] = number;
      else ranges.push([number, number]);
    }
    const numbers = ranges
      .map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`))
      .join(',');
    return { source, numbers };
  });
}

/** The table as the schema tells it. */
export const toldTable = (table: LossTable) => ({ ...table, lostRuns: runLists(table.lostRuns) });

@Resolver(() => IncidentType)
export class IncidentTableResolver {
  @FieldResolver(() => StorageLossTable, {
    nullable: true,
    description:
      'What it hit, as it was found when it was reported: the table of the report once more, with the containers ' +
      'and derived files that there are now. Takes seconds for a million copies. For producers and operators.',
  })
  async table(@Ctx() { db, viewer }: Context, @Root() incident: IncidentRow) {
    return toldTable(await lossTable(db.fork(), hitsOfIncident(incident.id), viewer));
  }
}
