import { may, type Viewer } from '../access/policy.ts';
import { standingOf } from '../access/tokens.service.ts';
import { visibleDataset } from '../access/visibility.ts';
import { nameIs } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { allOf, changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { currentPlace, eventsAfter, type EventRow, type Place } from '../events/events.queries.ts';
import type { NoticeDataset } from './notice.ts';
import {
  afterFailedDelivery,
  type Answer,
  type DatasetNames,
  type NoticeKind,
  type WebhookScope,
} from './webhooks.rules.ts';

/** A webhook that a server holds, to tell it what comes after its place; `claim` is the fence. */
export interface HeldWebhook {
  readonly id: number;
  readonly claim: number;
  readonly owner: string;
  readonly url: string;
  readonly kinds: NoticeKind[];
  readonly scope: WebhookScope;
  readonly names: DatasetNames | null;
  readonly salt: Buffer;
  readonly toldXid: string;
  readonly toldId: number;
  readonly failureCount: number;
}

/** The lines that notices are made of, as the index events_for_notices has them. */
const noticeLines = sql`(e.kind in ('DATASET_MARKED_BAD', 'DATASET_CLEARED')
  or (e.kind = 'DATASET_STATUS' and e.to_state = 'CLOSED'))`;

/** The last settled line that any webhook could want; undefined = there is none yet. */
export async function lastNoticeLine(db: Db): Promise<Place | undefined> {
  return firstRow(
    db,
    sql<Place>`select e.xid::text as xid, e.id from events e
      where ${noticeLines} and e.xid < pg_snapshot_xmin(pg_current_snapshot())
      order by e.xid desc, e.id desc limit 1`,
  );
}

/** Takes webhooks that have not come as far as `head`, of those whose secret this server can make. */
export async function claimWebhooks(
  db: Db,
  { head, keyId, server, leaseMs, most }: ClaimWebhooks,
): Promise<HeldWebhook[]> {
  return rows(
    db,
    sql<HeldWebhook>`
    update webhooks w set claim = w.claim + 1, server = ${server},
      lease_until = clock_timestamp() + make_interval(secs => ${leaseMs / 1000})
    where w.id in (
      select id from webhooks
      where status = 'ENABLED' and key_id = ${keyId} and next_attempt_at <= clock_timestamp()
        and (lease_until is null or lease_until < clock_timestamp())
        and (told_xid, told_id) < (${head.xid}::text::xid8, ${head.id}::bigint)
      order by next_attempt_at, id limit ${most} for update skip locked)
    returning w.id, w.claim, w.owner, w.url, w.kinds, w.scope, w.names, w.salt, w.told_xid::text as "toldXid",
      w.told_id as "toldId", w.failure_count as "failureCount"`,
  );
}

export interface ClaimWebhooks {
  readonly head: Place;
  readonly keyId: string;
  readonly server: string;
  readonly leaseMs: number;
  readonly most: number;
}

/** Why a webhook may be told nothing; undefined = it may. */
export function objection(
  webhook: Pick<HeldWebhook, 'owner' | 'scope'>,
  viewer: Viewer | undefined,
): string | undefined {
  if (!viewer) return `${webhook.owner} has no valid token any more`;
  if (webhook.scope === 'ALL' && !may(viewer, 'watchAllDatasets')) {
    return `${webhook.owner} may no longer watch the datasets of others`;
  }
  return undefined;
}

export interface PendingNotice {
  readonly event: EventRow;
  readonly dataset: NoticeDataset;
}

export type Pending =
  | { readonly objection: string }
  | { readonly objection: undefined; readonly notices: readonly PendingNotice[] };

/** What a webhook is to be told next, in order: what its owner may see now and asked for. */
export async function pendingNotices(db: Db, webhook: HeldWebhook, most: number): Promise<Pending> {
  const viewer = await standingOf(db, webhook.owner);
  const why = objection(webhook, viewer);
  if (why !== undefined || !viewer) return { objection: why ?? '' };
  const events = await eventsAfter(
    db,
    { xid: webhook.toldXid, id: webhook.toldId },
    most,
    allOf([
      noticeLines,
      sql`case e.kind when 'DATASET_STATUS' then 'DATASET_CLOSED' else e.kind end = any (${webhook.kinds}::text[])`,
      webhook.scope === 'OWN' ? sql`d.owner = ${webhook.owner}` : undefined,
      nameIs(sql`d.name`, webhook.names),
      visibleDataset(viewer),
    ]),
  );
  const datasets = await rows(
    db,
    sql<
      NoticeDataset & { eventId: number }
    >`select e.id as "eventId", d.status, d.bad_mark_count as "standingMarks", (
        select m.incident_id from bad_marks m
        where m.dataset_id = d.id and e.reason = case e.kind when 'DATASET_CLEARED' then m.cleared_reason else m.reason end
        order by m.id desc limit 1) as incident
      from events e join datasets d on d.id = e.dataset_id
      where e.id = any (${events.map((event) => event.id)}::bigint[])
        and e.xid >= ${events[0]?.xid ?? '0'}::text::xid8 and e.xid <= ${events.at(-1)?.xid ?? '0'}::text::xid8`,
  );
  const byId = new Map(datasets.map((row) => [row.eventId, row]));
  return {
    objection: undefined,
    notices: events.flatMap((event) => {
      const dataset = byId.get(event.id);
      return dataset ? [{ event, dataset }] : [];
    }),
  };
}

/** Delivered: the place moves on; false = somebody else holds the webhook by now. */
export async function noticeDelivered(
  db: Db,
  webhook: HeldWebhook,
  place: Place,
  { notice, status, attempts, leaseMs }: Delivered,
): Promise<boolean> {
  const changed = await changedRows(
    db,
    sql`update webhooks set told_xid = ${place.xid}::text::xid8, told_id = ${place.id}, failure_count = 0,
        first_failed_at = null, next_attempt_at = clock_timestamp(), last_attempt_at = clock_timestamp(),
        last_notice = ${notice}, last_status = ${status ?? null}, last_attempts = ${attempts}, last_error = null,
        lease_until = clock_timestamp() + make_interval(secs => ${leaseMs / 1000})
      where id = ${webhook.id} and claim = ${webhook.claim} and status = 'ENABLED' returning id`,
  );
  return changed === 1;
}

export interface Delivered {
  readonly notice: string;
  readonly status: number | undefined;
  readonly attempts: number;
  readonly leaseMs: number;
}

/** Lets go of a webhook, for whoever comes first when there is more; `told`: all up to there is told. */
export async function letGo(db: Db, webhook: HeldWebhook, told?: Place): Promise<void> {
  const moved = told
    ? sql`case when (told_xid, told_id) < (${told.xid}::text::xid8, ${told.id}::bigint)`
    : undefined;
  await rows(
    db,
    sql`update webhooks set lease_until = null, server = null
        ${told && moved ? sql`, told_xid = ${moved} then ${told.xid}::text::xid8 else told_xid end, told_id = ${moved} then ${told.id}::bigint else told_id end` : sql``}
      where id = ${webhook.id} and claim = ${webhook.claim}`,
  );
}

export interface FailureOptions {
  readonly notice: string | undefined;
  readonly retryBaseMs: number;
  readonly retryHours: number;
}

const longestError = 500;

/** Not delivered: tried again later, or the webhook is disabled with the reason. Returns that reason. */
export async function noticeFailed(
  db: Db,
  webhook: HeldWebhook,
  answer: Answer,
  { notice, retryBaseMs, retryHours }: FailureOptions,
): Promise<string | undefined> {
  const row = await firstRow(
    db,
    sql<{ failingForMs: number }>`
    select extract(epoch from clock_timestamp() - coalesce(first_failed_at, clock_timestamp())) * 1000 as "failingForMs"
    from webhooks where id = ${webhook.id} and claim = ${webhook.claim}`,
  );
  if (!row) return undefined;
  const failureCount = webhook.failureCount + 1;
  const next = afterFailedDelivery({ answer, failureCount, ...row, retryBaseMs, retryHours });
  const disabledReason = 'disabledReason' in next ? next.disabledReason : null;
  const waitMs = 'retryInMs' in next ? next.retryInMs : 0;
  await rows(
    db,
    sql`update webhooks set failure_count = ${failureCount}, first_failed_at = coalesce(first_failed_at, clock_timestamp()),
        next_attempt_at = clock_timestamp() + make_interval(secs => ${waitMs / 1000}), lease_until = null, server = null,
        last_attempt_at = clock_timestamp(), last_notice = ${notice ?? null}, last_status = ${answer.status ?? null},
        last_attempts = ${failureCount}, last_error = ${(answer.error ?? '').slice(0, longestError)},
        status = ${disabledReason === null ? 'ENABLED' : 'DISABLED'}, disabled_reason = ${disabledReason},
        disabled_at = case when ${disabledReason !== null} then clock_timestamp() end
      where id = ${webhook.id} and claim = ${webhook.claim} and status = 'ENABLED'`,
  );
  return disabledReason ?? undefined;
}

/** After a restore into another cluster old places mean nothing: those webhooks go on from now. */
export async function leaveEarlierDatabase(db: Db, epoch: string): Promise<number> {
  const place = await currentPlace(db);
  return changedRows(
    db,
    sql`update webhooks set epoch = ${epoch}, told_xid = ${place.xid}::text::xid8, told_id = ${place.id}
      where epoch <> ${epoch} returning id`,
  );
}

/** Enabled webhooks whose secret was made with another key: this server can tell them nothing. */
export async function foreignWebhooks(db: Db, keyId: string): Promise<number> {
  const row = await firstRow(
    db,
    sql<{
      n: number;
    }>`select count(*) as n from webhooks where status = 'ENABLED' and key_id <> ${keyId}`,
  );
  return row?.n ?? 0;
}
