import { may } from '../access/policy.ts';
import { visibleFile } from '../access/visibility.ts';
import {
  askedPage,
  nodeIdSql,
  noRows,
  type ReadArguments,
  type Reader,
  type ReadModel,
  type Reading,
  type Source,
} from '../api/read-model.ts';
import { pageLimits } from '../database/page.ts';
import { sql, type RawBuilder } from '../database/sql.ts';
import { runsOfPage } from '../runs/runs.queries.ts';
import {
  fileColumns,
  fileIsNamed,
  filesOfRun,
  filesPage,
  fileTables,
  replicaColumns,
  replicaTables,
  runsOfFile,
} from './files.queries.ts';
import { childrenOf, inputsOf, parentsOf } from './parentage.queries.ts';

export const replicaModel: ReadModel = {
  columns: ['volume', 'path', 'status', 'createdAt'],
  fields: {},
};

/** Those that a condition on files f tells, by LFN. */
const filesOf = (of: RawBuilder<unknown>, args: ReadArguments, { viewer }: Reading): Source => ({
  of: 'File',
  asked: askedPage(args, pageLimits.files),
  page: filesPage(viewer, args['filter'] ?? {}, { of, order: 'LFN' }),
});

const fields: Record<string, Reader> = {
  id: (file) => ({ value: nodeIdSql('File', file.column('id')) }),
  runs: (file, args, { viewer }) => ({
    of: 'Run',
    asked: askedPage(args, pageLimits.others),
    page: runsOfPage(viewer, runsOfFile(file.column('id'))),
  }),
  inputs: (file, args, reading) => filesOf(inputsOf(file.column('id')), args, reading),
  parents: (file, args, reading) => filesOf(parentsOf(file.column('id')), args, reading),
  children: (file, args, reading) => filesOf(childrenOf(file.column('id')), args, reading),
  mergedInto: (file, _args, { viewer }) => ({
    of: 'File',
    one: {
      select: fileColumns,
      from: fileTables,
      where: sql`f.id = (select m.output_file_id from merge_inputs mi join merges m on m.id = mi.merge_id
        where mi.input_file_id = ${file.column('id')}) and ${visibleFile(viewer)}`,
    },
  }),
  replicas: (file, _args, { viewer }) => ({
    of: 'Replica',
    list: may(viewer, 'readProduction')
      ? {
          select: replicaColumns,
          from: replicaTables,
          where: sql`p.file_id = ${file.column('id')}`,
          orderBy: sql`p.id`,
        }
      : noRows,
  }),
};

/** Without its fields that belong to nouns to the right. */
export const fileModel: ReadModel = {
  columns: [
    'lfn',
    'kind',
    'site',
    'stream',
    'release',
    'sizeBytes',
    'adler32',
    'sha256',
    'eventCount',
    'createdAt',
    'createdBy',
    'isBackedUp',
  ],
  fields,
};

/** Field of Run. */
export const runFileFields: Record<'files', Reader> = {
  files: (run, args, reading) => filesOf(filesOfRun(run.column('id')), args, reading),
};

export const fileRoots: Record<'file' | 'files', Reader> = {
  file: (_row, { lfn }, { viewer }) => ({
    of: 'File',
    one: { select: fileColumns, from: fileTables, where: fileIsNamed(viewer, lfn) },
  }),
  files: (_row, args, { viewer }) => ({
    of: 'File',
    asked: askedPage(args, pageLimits.files),
    page: filesPage(
      viewer,
      args['filter'] ?? {},
      args['orderBy'] ? { order: args['orderBy'] } : {},
    ),
  }),
};
