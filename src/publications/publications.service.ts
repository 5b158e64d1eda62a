import { requestOwed } from '../backups/owed-copies.service.ts';
import { demand, may, type Viewer } from '../access/policy.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { step, type PublicationStatus } from './publications.rules.ts';
import type { PublicationChange } from './request.service.ts';

interface Locked {
  readonly status: PublicationStatus;
  readonly requestedBy: string;
  readonly storeId: number;
}

async function lockPublication(
  tx: Db,
  viewer: Viewer,
  id: number,
  action: 'handlePublication' | 'managePublishing',
): Promise<Locked> {
  if (viewer.roles.includes('ANONYMOUS')) demand(viewer, action);
  const found = await firstRow(
    tx,
    sql<Locked>`select status, requested_by as "requestedBy", store_id as "storeId" from publications
      where id = ${id} for no key update`,
  );
  // Of others' publications one learns nothing, not even that they are there.
  const isSeen = found && (found.requestedBy === viewer.principal || seesAll(viewer));
  if (!isSeen) {
    if (action === 'managePublishing') demand(viewer, action);
    throw new SweepbookError('NOT_FOUND', `no publication ${id}: look at "publish list"`, {
      publication: id,
    });
  }
  demand(viewer, action, found.requestedBy);
  return found;
}

const seesAll = (viewer: Viewer): boolean => may(viewer, 'readPublications');

/** Calls it off before it is published: workers remove what it wrote. ILLEGAL_TRANSITION once it is over. */
export async function withdrawPublication(
  db: Db,
  viewer: Viewer,
  id: number,
  reason: string | null | undefined,
): Promise<PublicationChange> {
  const actor = { principal: viewer.principal, reason: reason?.trim() };
  return inTransaction(db, actor, async (tx) => {
    const { status } = await lockPublication(tx, viewer, id, 'handlePublication');
    if (step(id, status, 'WITHDRAWN') === 'done') return { publicationId: id, changed: false };
    await rows(tx, sql`update publications set status = 'WITHDRAWN' where id = ${id}`);
    return { publicationId: id, changed: true };
  });
}

/** An operator's word on one that waits for it; a refusal needs a reason. */
export async function decidePublication(
  db: Db,
  viewer: Viewer,
  {
    id,
    isApproved,
    reason,
  }: { id: number; isApproved: boolean; reason?: string | null | undefined },
): Promise<PublicationChange> {
  const why = reason?.trim();
  const actor = { principal: viewer.principal, reason: why };
  return inTransaction(db, actor, async (tx) => {
    const { status } = await lockPublication(tx, viewer, id, 'managePublishing');
    if (!isApproved && !why)
      throw badInput('reason', reason ?? null, 'say why, its owner reads it');
    if (status !== 'AWAITING_APPROVAL') {
      throw new SweepbookError(
        'ILLEGAL_TRANSITION',
        `publication ${id} is ${status}: nobody waits for a decision`,
        { publication: id, status },
      );
    }
    const decided = sql`decided_by = ${viewer.principal}, decided_at = clock_timestamp()`;
    await rows(
      tx,
      isApproved
        ? sql`update publications set status = 'CHECKING', ${decided} where id = ${id}`
        : sql`update publications set status = 'FAILED', ${decided}, last_error_code = 'FORBIDDEN',
            last_error = ${`${viewer.principal} did not approve of it: ${why}`.slice(0, 2000)} where id = ${id}`,
    );
    return { publicationId: id, changed: true };
  });
}

/** Tries again at once what waits for its next attempt, and the backups that FAILED. */
export async function retryPublication(
  { db, jobs }: { readonly db: Db; readonly jobs: JobQueue },
  viewer: Viewer,
  id: number,
): Promise<PublicationChange> {
  return inTransaction(db, viewer, async (tx) => {
    const { status, storeId } = await lockPublication(tx, viewer, id, 'handlePublication');
    if (status === 'PUBLISHED' || status === 'FAILED' || status === 'WITHDRAWN') {
      step(id, status, 'CHECKING');
    }
    const sooner = await changedRows(
      tx,
      sql`update publications set next_attempt_at = now()
        where id = ${id} and next_attempt_at > now() and status in ('CHECKING', 'MERGING') returning id`,
    );
    if (status !== 'BACKING_UP') return { publicationId: id, changed: sooner > 0 };
    const owed = await rows(
      tx,
      sql<{ id: number }>`
      select f.id from publication_composites c join files f on f.id = c.file_id
      where c.publication_id = ${id} and f.missing_copies > 0`,
    );
    const asked = await requestOwed(
      tx,
      jobs,
      owed.map((file) => file.id),
      storeId,
    );
    return { publicationId: id, changed: asked > 0 };
  });
}
