import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { lockDataset, type DatasetChange } from './datasets.service.ts';
import { isLine } from '../text.ts';

export interface ShareDataset {
  readonly dataset: string;
  readonly users?: readonly string[] | null | undefined;
  readonly groups?: readonly string[] | null | undefined;
}

export interface ShareRow {
  readonly datasetId: number;
  readonly kind: 'USER' | 'GROUP';
  readonly name: string;
  readonly sharedBy: string;
  readonly sharedAt: Date;
}

const mostShares = 1000;
const longestName = 128;

function namesOf({ users, groups }: ShareDataset): { kind: string; name: string }[] {
  const named = [
    ...(users ?? []).map((name) => ({ kind: 'USER', name })),
    ...(groups ?? []).map((name) => ({ kind: 'GROUP', name })),
  ];
  if (named.length === 0) throw badInput('users', users ?? null, 'name users, groups, or both');
  if (named.length > mostShares) throw badInput('users', named.length, `at most ${mostShares}`);
  for (const { kind, name } of named) {
    if (name === '' || name.length > longestName || !isLine(name)) {
      const field = kind === 'USER' ? 'users' : 'groups';
      throw badInput(field, name, `1 to ${longestName} printable characters`);
    }
  }
  return named;
}

/**
 * Shows a dataset to users and groups before it is published; who comes into a group later sees it, too. It stays
 * changed by its owner alone. NOT_FOUND, ILLEGAL_TRANSITION (it is published), LIMIT_REACHED; a group need not be known here, an issuer of tokens may know it.
 */
export async function shareDataset(
  db: Db,
  viewer: Viewer,
  input: ShareDataset,
): Promise<DatasetChange> {
  const named = namesOf(input);
  return inTransaction(db, viewer, async (tx) => {
    const dataset = await lockDataset(tx, viewer, input.dataset);
    demand(viewer, 'shareDataset', dataset.owner);
    if (dataset.status === 'CLOSED') {
      throw new SweepbookError(
        'ILLEGAL_TRANSITION',
        `dataset ${dataset.name} is CLOSED: everybody sees it, unless it is bad`,
        { dataset: dataset.name },
      );
    }
    const changedCount = await changedRows(
      tx,
      sql`insert into dataset_shares (dataset_id, kind, name)
        select ${dataset.id}::bigint, * from unnest(${named.map((one) => one.kind)}::text[],
          ${named.map((one) => one.name)}::text[]) on conflict do nothing returning name`,
    );
    const all = await firstRow(
      tx,
      sql<{ n: number }>`select count(*) as n from dataset_shares where dataset_id = ${dataset.id}`,
    );
    if ((all?.n ?? 0) > mostShares) {
      throw new SweepbookError(
        'LIMIT_REACHED',
        `dataset ${dataset.name} is shared with ${mostShares} users and groups at most: make a group, or publish it`,
      );
    }
    return { datasetId: dataset.id, changed: changedCount > 0, changedCount };
  });
}

/** Ends that, at once. */
export async function unshareDataset(
  db: Db,
  viewer: Viewer,
  input: ShareDataset,
): Promise<DatasetChange> {
  const named = namesOf(input);
  return inTransaction(db, viewer, async (tx) => {
    const dataset = await lockDataset(tx, viewer, input.dataset);
    demand(viewer, 'shareDataset', dataset.owner);
    const changedCount = await changedRows(
      tx,
      sql`delete from dataset_shares s using unnest(${named.map((one) => one.kind)}::text[],
          ${named.map((one) => one.name)}::text[]) as t (kind, name)
        where s.dataset_id = ${dataset.id} and s.kind = t.kind and s.name = t.name returning s.name`,
    );
    return { datasetId: dataset.id, changed: changedCount > 0, changedCount };
  });
}

/** With whom datasets are shared; the caller has looked whether the viewer may know. */
export async function sharesOf(db: Db, datasetIds: readonly number[]): Promise<ShareRow[]> {
  return rows(
    db,
    sql<ShareRow>`
    select dataset_id as "datasetId", kind, name, shared_by as "sharedBy", shared_at as "sharedAt"
    from dataset_shares where dataset_id = any (${datasetIds}::bigint[]) order by dataset_id, kind, name`,
  );
}
