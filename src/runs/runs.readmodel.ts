import { visibleRunFacts } from '../access/visibility.ts';
import { askedPage, nodeIdSql, type Reader, type ReadModel } from '../api/read-model.ts';
import { pageLimits } from '../database/page.ts';
import { sql } from '../database/sql.ts';
import { verdictRows } from './dqm.queries.ts';
import { listedRunsPage, runColumns, runIsNumbered } from './runs.queries.ts';

/** What is said of a run in production is null for who may only know that it is in production. */
const facts = [
  'startedAt',
  'endedAt',
  'eventCount',
  'luminosity',
  'conditions',
  'expectedStreams',
  'availableAt',
  'verdict',
  'verdictComment',
  'verdictBy',
  'verdictAt',
];

const fact =
  (name: string): Reader =>
  (run, _args, { viewer }) => {
    const isSeen = visibleRunFacts(viewer, run.column('productionStatus'));
    return { value: sql`(case when ${isSeen} then ${run.column(name)} end)` };
  };

export const verdictModel: ReadModel = {
  columns: ['from', 'to', 'comment', 'actor', 'occurredAt'],
  fields: {},
};

export const runModel: ReadModel = {
  columns: ['number', 'source', 'productionStatus'],
  fields: {
    id: (run) => ({ value: nodeIdSql('Run', run.column('id')) }),
    verdicts: (run, _args, { viewer }) => ({
      of: 'RunVerdictChange',
      list: {
        ...verdictRows(run.column('id')),
        where: visibleRunFacts(viewer, run.column('productionStatus')),
      },
    }),
    ...Object.fromEntries(facts.map((name) => [name, fact(name)])),
  },
};

export const runRoots: Record<'run' | 'runs', Reader> = {
  run: (_row, { number, source }, { viewer }) => ({
    of: 'Run',
    one: {
      select: runColumns,
      from: sql`runs r`,
      where: runIsNumbered(viewer, number, source ?? 'DATA'),
    },
  }),
  runs: (_row, args, { viewer }) => ({
    of: 'Run',
    asked: askedPage(args, pageLimits.others),
    page: listedRunsPage(viewer, args['filter'] ?? {}, args['orderBy'] ?? undefined),
  }),
};
