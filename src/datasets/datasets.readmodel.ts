import { askedPage, nodeIdSql, type Reader, type ReadModel } from '../api/read-model.ts';
import { pageLimits } from '../database/page.ts';
import { sql } from '../database/sql.ts';
import { datasetFilesPage } from '../files/files.queries.ts';
import { runsOfPage } from '../runs/runs.queries.ts';
import { runsOfDataset } from './dataset-runs.queries.ts';
import {
  badMarkColumns,
  badMarkTables,
  datasetColumns,
  datasetIsNamed,
  datasetsOfFile,
  datasetsOfRun,
  datasetsPage,
} from './datasets.queries.ts';

export const badMarkModel: ReadModel = {
  columns: ['reason', 'markedBy', 'markedAt', 'lostFileCount', 'fileCount'],
  fields: {},
};

export const runRangeModel: ReadModel = { columns: ['first', 'last'], fields: {} };

export const datasetModel: ReadModel = {
  columns: [
    'name',
    'kind',
    'status',
    'owner',
    'stream',
    'release',
    'treeName',
    'description',
    'sealed',
    'backupWaived',
    'waiverReason',
    'isAvailable',
    'fileCount',
    'confirmedCount',
    'sizeBytes',
    'eventCount',
    'runCount',
    'luminosity',
    'version',
    'createdAt',
    'backedUpAt',
    'closedAt',
  ],
  fields: {
    id: (dataset) => ({ value: nodeIdSql('Dataset', dataset.column('id')) }),
    badMark: (dataset) => ({
      of: 'BadMark',
      one: {
        select: badMarkColumns,
        from: badMarkTables,
        where: sql`b.dataset_id = ${dataset.column('id')} and b.cleared_at is null`,
        orderBy: sql`b.id`,
      },
    }),
    runRange: (dataset) => {
      const [first, last] = [dataset.column('firstRun'), dataset.column('lastRun')];
      return {
        of: 'RunRange',
        one: {
          select: sql`${first} as first, ${last} as last`,
          from: sql`(values (1)) as one`,
          where: sql`${first} is not null and ${last} is not null`,
        },
      };
    },
    files: (dataset, args, { viewer }) => ({
      of: 'File',
      asked: askedPage(args, pageLimits.files),
      page: datasetFilesPage(
        viewer,
        { id: dataset.column('id'), fileCount: dataset.column('fileCount') },
        args['filter'] ?? {},
      ),
    }),
    runs: (dataset, args, { viewer }) => ({
      of: 'Run',
      asked: askedPage(args, pageLimits.others),
      page: runsOfPage(
        viewer,
        runsOfDataset(viewer, dataset.column('id'), {
          filter: args['filter'] ?? {},
          verdict: args['verdict'],
          minEvents: args['minEvents'],
        }),
      ),
    }),
  },
};

/** Fields of File and of Run. */
export const fileDatasetFields: Record<'datasets', Reader> = {
  datasets: (file, args, { viewer }) => ({
    of: 'Dataset',
    asked: askedPage(args, pageLimits.others),
    page: datasetsPage(viewer, 'all', 'NAME', datasetsOfFile(file.column('id'))),
  }),
};

export const runDatasetFields: Record<'datasets', Reader> = {
  datasets: (run, args, { viewer }) => ({
    of: 'Dataset',
    asked: askedPage(args, pageLimits.others),
    page: datasetsPage(
      viewer,
      'all',
      'NAME',
      datasetsOfRun({ source: run.column('source'), number: run.column('number') }),
    ),
  }),
};

export const datasetRoots: Record<'dataset' | 'datasets', Reader> = {
  dataset: (_row, { name }, { viewer }) => ({
    of: 'Dataset',
    one: {
      select: datasetColumns,
      from: sql`datasets d`,
      where: datasetIsNamed(viewer, name),
    },
    // Whether it is bad, and why, is told by the resolver.
    orResolver: true,
  }),
  datasets: (_row, args, { viewer }) => ({
    of: 'Dataset',
    asked: askedPage(args, pageLimits.others),
    page: datasetsPage(viewer, args['filter'] ?? {}, args['orderBy'] ?? 'NAME'),
  }),
};
