import { askedPage, nodeIdSql, type Reader, type ReadModel } from '../api/read-model.ts';
import { pageLimits } from '../database/page.ts';
import { sql } from '../database/sql.ts';
import { containerColumns, containersOfDataset, containersPage } from './containers.queries.ts';

/** What it lists, now or then, and its history are for the resolvers. */
export const containerModel: ReadModel = {
  columns: [
    'name',
    'owner',
    'description',
    'datasetCount',
    'suspendedCount',
    'fileCount',
    'sizeBytes',
    'eventCount',
    'luminosity',
    'version',
    'changedAt',
    'createdAt',
    'createdBy',
  ],
  fields: { id: (container) => ({ value: nodeIdSql('Container', container.column('id')) }) },
};

/** Field of Dataset. */
export const datasetContainerFields: Record<'containers', Reader> = {
  containers: (dataset, args, { viewer }) => ({
    of: 'Container',
    asked: askedPage(args, pageLimits.others),
    page: containersPage(viewer, {}, containersOfDataset(dataset.column('id'))),
  }),
};

export const containerRoots: Record<'container' | 'containers', Reader> = {
  container: (_row, { name }) => ({
    of: 'Container',
    one: { select: containerColumns, from: sql`containers c`, where: sql`c.name = ${name}` },
  }),
  containers: (_row, args, { viewer }) => ({
    of: 'Container',
    asked: askedPage(args, pageLimits.others),
    page: containersPage(viewer, args['filter'] ?? {}),
  }),
};
