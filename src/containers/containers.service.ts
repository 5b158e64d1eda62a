import { demand, type Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction, type Actor } from '../database/transaction.ts';
import { demandReason } from '../datasets/datasets.rules.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { lastChange, nothing, type TotalsRow } from './containers.queries.ts';
import {
  checkContainerName,
  checkDatasetNames,
  checkedReason,
  demandAllFound,
  demandListable,
  expectContainerVersion,
  type Candidate,
} from './containers.rules.ts';
import { isKept, isLine } from '../text.ts';

export interface ContainerResult {
  readonly containerId: number;
  readonly changed: boolean;
  /** Datasets that came or left. */
  readonly changedCount: number;
  /** What came or left with them. */
  readonly moved: TotalsRow;
}

export interface CreateContainer {
  readonly name: string;
  readonly owner?: string | null | undefined;
  readonly description?: string | null | undefined;
  readonly datasets?: readonly string[] | null | undefined;
  readonly reason?: string | null | undefined;
}

/** Creates a container, with its first datasets if they are given. DUPLICATE when the name is taken. */
export async function createContainer(
  db: Db,
  viewer: Viewer,
  input: CreateContainer,
  idempotencyKey?: string | null,
): Promise<ContainerResult> {
  demand(viewer, 'createContainer');
  if (input.owner != null && input.owner !== viewer.principal) demand(viewer, 'createForOthers');
  checkContainerName(input.name);
  for (const [field, text, longest] of [
    ['owner', input.owner, 128],
    ['description', input.description, 10_000],
  ] as const) {
    const isGood = field === 'description' ? isKept : isLine;
    if (text != null && (text === '' || text.length > longest || !isGood(text))) {
      throw badInput(field, text, `1 to ${longest} printable characters`);
    }
  }
  const names = checkDatasetNames(input.datasets ?? []);
  const actor = { principal: viewer.principal, reason: checkedReason(input.reason) };
  const call = {
    principal: viewer.principal,
    operation: 'createContainer',
    key: idempotencyKey,
    request: input,
  };
  return inTransaction(db, actor, (tx) =>
    onceForKey(tx, call, async () => {
      const candidates = await lockCandidates(tx, viewer, names);
      const made = await firstRow(
        tx,
        sql<{ id: number }>`
        insert into containers (name, owner, description)
        values (${input.name}, ${input.owner ?? viewer.principal}, ${input.description ?? null})
        on conflict (name) do nothing returning id`,
      );
      if (!made) {
        throw new SweepbookError(
          'DUPLICATE',
          `the name ${input.name} is taken: choose another one, or add datasets to it if it is yours`,
          { container: input.name },
        );
      }
      return { ...(await insertDatasets(tx, made.id, candidates)), changed: true };
    }),
  );
}

export interface ContainerDatasetsChange {
  readonly container: string;
  readonly datasets: readonly string[];
  readonly reason?: string | null | undefined;
  readonly expectedVersion?: number | null | undefined;
  /** The same answer, and nothing is written. */
  readonly dryRun?: boolean | null | undefined;
}

/** Puts closed datasets into a container; those that are in stay. All or nothing, one line of history. */
export async function addToContainer(
  db: Db,
  viewer: Viewer,
  input: ContainerDatasetsChange,
): Promise<ContainerResult> {
  const names = checkDatasetNames(input.datasets);
  const actor = { principal: viewer.principal, reason: checkedReason(input.reason) };
  return tryOrDo(db, actor, input.dryRun === true, async (tx) => {
    const { id } = await changeableContainer(tx, viewer, input.container);
    // Datasets before the container, as a bad mark does.
    const candidates = await lockCandidates(tx, viewer, names);
    await lockContainer(tx, id, input.expectedVersion);
    return insertDatasets(tx, id, candidates);
  });
}

/** Takes datasets out of a container, with the reason; those that are not in stay out. All or nothing. */
export async function removeFromContainer(
  db: Db,
  viewer: Viewer,
  input: ContainerDatasetsChange,
): Promise<ContainerResult> {
  const names = checkDatasetNames(input.datasets);
  const actor = { principal: viewer.principal, reason: demandReason(input.reason) };
  return tryOrDo(db, actor, input.dryRun === true, async (tx) => {
    const { id } = await changeableContainer(tx, viewer, input.container);
    await lockContainer(tx, id, input.expectedVersion);
    // What is in a container that one may change one may name, also while it is bad.
    const found = await rows(
      tx,
      sql<{ id: number; name: string }>`
      select d.id, d.name from datasets d
      where d.name = any (${names}::text[]) and (d.status = 'CLOSED' or ${visibleDataset(viewer)})`,
    );
    demandAllFound(names, found);
    const changedCount = await changedRows(
      tx,
      sql`delete from container_datasets
        where container_id = ${id} and dataset_id = any (${found.map((row) => row.id)}::bigint[])
        returning dataset_id`,
    );
    return resultOf(tx, id, changedCount);
  });
}

async function changeableContainer(
  tx: Db,
  viewer: Viewer,
  name: string,
): Promise<{ id: number; owner: string }> {
  if (viewer.roles.includes('ANONYMOUS')) demand(viewer, 'changeContainer');
  const container = await firstRow(
    tx,
    sql<{ id: number; owner: string }>`select id, owner from containers where name = ${name}`,
  );
  if (!container) {
    throw new SweepbookError(
      'NOT_FOUND',
      `no container ${name}: look at "container list", names are case-sensitive`,
      { container: name },
    );
  }
  demand(viewer, 'changeContainer', container.owner);
  return container;
}

/** Every change of a container queues here. */
async function lockContainer(
  tx: Db,
  id: number,
  expectedVersion: number | null | undefined,
): Promise<void> {
  const container = await firstRow(
    tx,
    sql<{ name: string; version: number }>`
    select name, version from containers where id = ${id} for no key update`,
  );
  if (container) expectContainerVersion(container, expectedVersion);
}

/** The datasets of these names, which stay closed and good until we are done. */
async function lockCandidates(
  tx: Db,
  viewer: Viewer,
  names: readonly string[],
): Promise<Candidate[]> {
  if (names.length === 0) return [];
  // That a published dataset is bad everybody may be told.
  const found = await rows(
    tx,
    sql<Candidate>`
    select d.id, d.name, d.status, d.bad_mark_count > 0 as "isBad" from datasets d
    where d.name = any (${names}::text[]) and (d.status = 'CLOSED' or ${visibleDataset(viewer)})
    order by d.id for share`,
  );
  demandAllFound(names, found);
  demandListable(found);
  return found;
}

async function insertDatasets(
  tx: Db,
  containerId: number,
  datasets: readonly Candidate[],
): Promise<ContainerResult> {
  const changedCount =
    datasets.length === 0
      ? 0
      : await changedRows(
          tx,
          sql`insert into container_datasets (container_id, dataset_id)
            select ${containerId}::bigint, unnest(${datasets.map((dataset) => dataset.id)}::bigint[])
            on conflict do nothing returning dataset_id`,
        );
  return resultOf(tx, containerId, changedCount);
}

async function resultOf(
  tx: Db,
  containerId: number,
  changedCount: number,
): Promise<ContainerResult> {
  if (changedCount === 0) return { containerId, changed: false, changedCount, moved: nothing };
  const line = await lastChange(tx, containerId);
  const moved = (line?.kind === 'ADDED' ? line.added : line?.removed) ?? nothing;
  return { containerId, changed: true, changedCount, moved };
}

/** Ends the transaction of a dry run. */
class TakenBack<T> extends Error {
  readonly answer: T;

  constructor(answer: T) {
    super('a dry run');
    this.answer = answer;
  }
}

/** A dry run does everything, refusals and counts included, and takes it back. */
async function tryOrDo(
  db: Db,
  actor: Actor,
  dryRun: boolean,
  work: (tx: Db) => Promise<ContainerResult>,
): Promise<ContainerResult> {
  try {
    return await inTransaction(db, actor, async (tx) => {
      const answer = await work(tx);
      if (dryRun) throw new TakenBack(answer);
      return answer;
    });
  } catch (error) {
    if (error instanceof TakenBack) return error.answer as ContainerResult;
    throw error;
  }
}
