import { Arg, Ctx, FieldResolver, Int, Query, Resolver, Root } from 'type-graphql';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { SafeInt } from '../api/scalars.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { RunRow } from '../runs/runs.queries.ts';
import { loadRuns } from '../runs/runs.resolver.ts';
import type { RunVerdict as VerdictName } from '../runs/runs.rules.ts';
import { RunConnection, RunFilter, RunType, RunVerdict } from '../runs/runs.schema.ts';
import {
  datasetRunTotals,
  demandDatasets,
  listDatasetRuns,
  listRunsOfDataset,
  type DatasetRunRow,
  type DatasetRunTotals as Totals,
} from './dataset-runs.queries.ts';
import { DatasetRunConnection, DatasetRunTotals, DatasetRunType } from './dataset-runs.schema.ts';
import { datasetsOfRun, listDatasets, type DatasetRow } from './datasets.queries.ts';
import { loadDatasets } from './datasets.resolver.ts';
import { DatasetConnection, DatasetType } from './datasets.schema.ts';

interface DatasetRuns extends Connection<DatasetRunRow> {
  readonly sum: () => Promise<Totals[]>;
}

@Resolver(() => DatasetRunConnection)
export class DatasetRunsResolver {
  @Query(() => DatasetRunConnection, {
    description:
      'Events and luminosity run by run, of several datasets, each by run; totals has the sums. Runs that you ' +
      'may know of. NOT_FOUND, DATASET_BAD: a dataset that is left out would be missing in the sums.',
  })
  async datasetRuns(
    @Ctx() { db, viewer }: Context,
    @Arg('datasets', () => [String], { description: 'Their names, at most 200.' })
    names: string[],
    @Arg('goodRunsOnly', () => Boolean, {
      defaultValue: false,
      description: 'Only runs that DQM found GOOD.',
    })
    goodRunsOnly: boolean,
    @Arg('minEvents', () => SafeInt, {
      nullable: true,
      description: 'Runs with so many events or more in the dataset.',
    })
    minEvents: number | null,
    @Arg('runs', () => String, {
      nullable: true,
      description: 'Runs in these ranges: "36172-39320,40001".',
    })
    runs: string | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<DatasetRuns> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const filter = { numbers: runs, verdict: goodRunsOnly ? ('GOOD' as const) : null };
    const asked = { filter, minEvents };
    const datasets = await demandDatasets(db.fork(), viewer, names);
    const found = await listDatasetRuns(db.fork(), viewer, datasets, asked, page);
    return {
      ...toConnection(found),
      sum: () => datasetRunTotals(db.fork(), viewer, datasets, asked),
    };
  }

  @FieldResolver(() => [DatasetRunTotals], {
    description: 'Sums over all runs that fit, dataset by dataset; added up only when asked for.',
  })
  totals(@Root() { sum }: DatasetRuns): Promise<Totals[]> {
    return sum();
  }
}

@Resolver(() => DatasetRunType)
export class DatasetRunResolver {
  @FieldResolver(() => DatasetType, { description: 'The dataset.' })
  dataset(@Ctx() context: Context, @Root() row: DatasetRunRow): Promise<DatasetRow | undefined> {
    return context.load(loadDatasets, row.datasetId);
  }

  @FieldResolver(() => RunType, { description: 'The run.' })
  run(@Ctx() context: Context, @Root() row: DatasetRunRow): Promise<RunRow | undefined> {
    return context.load(loadRuns, row.runId);
  }
}

@Resolver(() => DatasetType)
export class RunsOfDatasetResolver {
  @FieldResolver(() => RunConnection, {
    description: 'The runs that its files hold, as far as you may know them, in whatever state.',
  })
  async runs(
    @Ctx() { db, viewer }: Context,
    @Root() dataset: DatasetRow,
    @Arg('filter', () => RunFilter, { nullable: true, description: 'Which runs.' })
    filter: RunFilter | null,
    @Arg('verdict', () => RunVerdict, { nullable: true, description: 'Short for filter.verdict.' })
    verdict: VerdictName | null,
    @Arg('minEvents', () => SafeInt, {
      nullable: true,
      description: 'With so many events or more in this dataset.',
    })
    minEvents: number | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<RunRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const asked = { filter: filter ?? {}, verdict, minEvents };
    return toConnection(await listRunsOfDataset(db.fork(), viewer, dataset.id, asked, page));
  }
}

@Resolver(() => RunType)
export class RunDatasetsResolver {
  @FieldResolver(() => DatasetConnection, {
    description: 'The datasets that hold data of it, as far as you see them.',
  })
  async datasets(
    @Ctx() { db, viewer }: Context,
    @Root() run: RunRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<DatasetRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const of = datasetsOfRun(run);
    return toConnection(await listDatasets(db.fork(), viewer, 'all', 'NAME', page, of));
  }
}
