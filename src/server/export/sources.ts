import type { Viewer } from '../../access/policy.ts';
import type { Means } from '../../api/context.ts';
import {
  containerMembers,
  findContainer,
  unavailableMemberCount,
} from '../../containers/containers.queries.ts';
import {
  listedDatasets,
  type ListedDataset,
  type ListFilter,
} from '../../datasets/datasets-export.queries.ts';
import { findDataset } from '../../datasets/datasets.queries.ts';
import { SweepbookError } from '../../errors.ts';
import type { Place } from '../../events/events.queries.ts';
import type { ListFacts } from '../../formats/list.ts';

/** What a list is made of: datasets, of which each file is listed once. */
export interface ListSource {
  readonly facts: Omit<ListFacts, 'treeName' | 'eventCount'>;
  readonly datasets: readonly ListedDataset[];
  readonly filter: ListFilter;
  /** Datasets that would belong to it and are bad now. */
  readonly unavailable: number;
}

/** How the things that have lists are found; `now` is the place of the log before anything was read. */
export type FindSource = (
  means: Means,
  viewer: Viewer,
  name: string,
  filter: ListFilter,
  now: Place,
) => Promise<ListSource>;

export const datasetSource: FindSource = async (means, viewer, name, filter) => {
  const dataset = await findDataset(means.db.fork(), viewer, name);
  if (!dataset) {
    throw new SweepbookError(
      'NOT_FOUND',
      `no dataset ${name} that you may see: names are case-sensitive, and what is not closed is not shown`,
      { dataset: name },
    );
  }
  const { id, kind, status, stream, release } = dataset;
  const datasets = await listed(means, viewer, name, [id]);
  return {
    facts: { name: dataset.name, kind, status, stream, release },
    datasets,
    filter,
    unavailable: 0,
  };
};

export const containerSource: FindSource = async (means, viewer, name, filter, now) => {
  const container = await findContainer(means.db.fork(), name);
  if (!container) {
    throw new SweepbookError('NOT_FOUND', `no container ${name}: names are case-sensitive`, {
      container: name,
    });
  }
  const { since, asOf = now, ...ofFiles } = filter;
  const extent = { since, asOf };
  const members = await containerMembers(means.db, viewer, container.id, extent);
  const ids = members.map((member) => member.id);
  return {
    facts: { name: container.name, kind: null, status: null, stream: null, release: null },
    datasets: await listed(means, viewer, name, ids),
    filter: ofFiles,
    unavailable: await unavailableMemberCount(means.db, container.id, extent),
  };
};

async function listed(
  means: Means,
  viewer: Viewer,
  name: string,
  ids: readonly number[],
): Promise<ListedDataset[]> {
  const datasets = await listedDatasets(means.db, viewer, ids);
  if (datasets.length === ids.length) return datasets;
  throw new SweepbookError('UNAVAILABLE', `${name} has just changed: ask again`, { name });
}
