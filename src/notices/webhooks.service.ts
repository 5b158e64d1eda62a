import { randomBytes } from 'node:crypto';
import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { currentPlace } from '../events/events.queries.ts';
import { testNotice } from './notice.ts';
import { post } from './post.ts';
import { shownSecret, signedHeaders, type WebhookKey } from './signature.ts';
import { findWebhook, type WebhookRow } from './webhooks.queries.ts';
import {
  checkKinds,
  checkNames,
  checkUrl,
  type Answer,
  type DatasetNames,
  type NoticeKind,
  type WebhookScope,
} from './webhooks.rules.ts';

/** What webhooks are made and tried out with. */
export interface WebhookMeans {
  readonly key: WebhookKey;
  readonly epoch: string;
  readonly isPrivateAllowed: boolean;
  readonly timeoutMs: number;
}

export interface CreateWebhook {
  readonly url: string;
  readonly kinds?: readonly NoticeKind[] | null | undefined;
  readonly scope?: WebhookScope | null | undefined;
  readonly datasets?: DatasetNames | null | undefined;
}

/** Makes a webhook that is told what happens from now on; its secret is returned this once. LIMIT_REACHED. */
export async function createWebhook(
  db: Db,
  viewer: Viewer,
  { key, epoch, isPrivateAllowed }: WebhookMeans,
  input: CreateWebhook,
): Promise<{ id: number; secret: string }> {
  demand(viewer, 'manageWebhooks', viewer.principal);
  const scope = input.scope ?? 'OWN';
  if (scope === 'ALL') demand(viewer, 'watchAllDatasets');
  const url = checkUrl(input.url, isPrivateAllowed);
  const kinds = checkKinds(input.kinds);
  const names = checkNames(input.datasets);
  const salt = randomBytes(16);
  return inTransaction(db, viewer, async (tx) => {
    const place = await currentPlace(tx);
    const made = await firstRow(
      tx,
      sql<{ id: number }>`
      insert into webhooks (url, kinds, scope, names, salt, key_id, epoch, told_xid, told_id)
      values (${url}, ${kinds}::text[], ${scope}, ${names ? JSON.stringify(names) : null}::jsonb, ${salt}, ${key.id},
        ${epoch}, ${place.xid}::text::xid8, ${place.id})
      returning id`,
    );
    if (!made) throw new Error('a webhook was not made, and nothing was said');
    return { id: made.id, secret: shownSecret(key, salt) };
  });
}

async function getWebhook(db: Db, viewer: Viewer, id: number | undefined): Promise<WebhookRow> {
  // 0 is nobody's id: who may ask at all is decided before what there is.
  const found = await findWebhook(db, viewer, id ?? 0);
  if (found) return found;
  throw new SweepbookError('NOT_FOUND', 'no webhook of yours has this id: look at webhooks', {
    field: 'id',
  });
}

/** Ends a webhook at once and for good, with what it was not told yet. NOT_FOUND. */
export async function deleteWebhook(
  db: Db,
  viewer: Viewer,
  id: number | undefined,
): Promise<WebhookRow> {
  return inTransaction(db, viewer, async (tx) => {
    const found = await getWebhook(tx, viewer, id);
    await changedRows(tx, sql`delete from webhooks where id = ${found.id} returning id`);
    return found;
  });
}

/** Tries again at once: where it stopped, or only what comes from now on. NOT_FOUND. */
export async function enableWebhook(
  db: Db,
  viewer: Viewer,
  id: number | undefined,
  isFromNow: boolean,
): Promise<{ id: number; changed: boolean }> {
  return inTransaction(db, viewer, async (tx) => {
    const found = await getWebhook(tx, viewer, id);
    const place = await currentPlace(tx);
    const changed = await changedRows(
      tx,
      sql`update webhooks set status = 'ENABLED', disabled_reason = null, disabled_at = null, failure_count = 0,
          first_failed_at = null, next_attempt_at = clock_timestamp(),
          told_xid = case when ${isFromNow} then greatest(told_xid, ${place.xid}::text::xid8) else told_xid end,
          told_id = case when ${isFromNow} and told_xid < ${place.xid}::text::xid8 then ${place.id} else told_id end
        where id = ${found.id} and (status = 'DISABLED' or failure_count > 0 or ${isFromNow}) returning id`,
    );
    return { id: found.id, changed: changed > 0 };
  });
}

const testEverySeconds = 5;

/** Sends a test notice now and says what came of it; its place in the log stays. NOT_FOUND, RATE_LIMITED. */
export async function testWebhook(
  db: Db,
  viewer: Viewer,
  { key, timeoutMs, isPrivateAllowed }: WebhookMeans,
  id: number | undefined,
): Promise<{ at: Date; answer: Answer }> {
  const webhook = await inTransaction(db, viewer, async (tx) => {
    const found = await getWebhook(tx, viewer, id);
    if (found.keyId !== key.id) {
      throw new SweepbookError(
        'UNAVAILABLE',
        'the secret of this webhook was made with another SWEEPBOOK_WEBHOOK_KEY than this server has: ask the server that made it',
      );
    }
    const isFree = await changedRows(
      tx,
      sql`update webhooks set tested_at = clock_timestamp() where id = ${found.id}
        and (tested_at is null or tested_at < clock_timestamp() - make_interval(secs => ${testEverySeconds}))
        returning id`,
    );
    if (isFree === 0) {
      throw new SweepbookError(
        'RATE_LIMITED',
        `a webhook is tested at most every ${testEverySeconds} seconds: wait a moment`,
      );
    }
    return found;
  });
  const at = new Date();
  const { id: notice, body } = testNotice(
    `test_${randomBytes(12).toString('hex')}`,
    viewer.principal,
    at,
  );
  const timestamp = Math.floor(at.getTime() / 1000);
  const headers = signedHeaders(key, webhook.salt, { id: notice, timestamp, body });
  return {
    at,
    answer: await post({ url: webhook.url, headers, body, timeoutMs, isPrivateAllowed }),
  };
}
