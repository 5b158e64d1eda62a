import { Arg, Ctx, Int, Query, Resolver } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { checkedFirst } from '../database/page.ts';
import { readTotals, type TotalsKey as KeyName, type TotalsRow } from './totals.queries.ts';
import { FileTotals, TotalsFilter, TotalsKey } from './totals.schema.ts';

const mostLines = 5000;

@Resolver()
export class TotalsResolver {
  @Query(() => [FileTotals], {
    description:
      'Files, events and bytes by site, stream, kind, status, release or store; by nothing: one line for all. ' +
      'Exact at this moment, whatever their number. Producers and operators get all files, others those that are ' +
      'published. BAD_USER_INPUT (more lines than first; STORE with STATUS), FORBIDDEN (STORE).',
  })
  async totals(
    @Ctx() { db, viewer }: Context,
    @Arg('by', () => [TotalsKey], { defaultValue: [], description: 'What to group by.' })
    by: KeyName[],
    @Arg('filter', () => TotalsFilter, { nullable: true, description: 'Which files.' })
    filter: TotalsFilter | null,
    @Arg('first', () => Int, {
      nullable: true,
      defaultValue: 1000,
      description: 'At most so many lines, up to 5,000; more are refused, not cut.',
    })
    first: number | null,
  ): Promise<TotalsRow[]> {
    return readTotals(db.fork(), viewer, by, filter ?? {}, checkedFirst(first ?? 1000, mostLines));
  }
}
