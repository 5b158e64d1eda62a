import { demand, may, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { firstRow, sql, type RawBuilder } from '../database/sql.ts';
import type { DatasetNames, NoticeKind, WebhookScope, WebhookStatus } from './webhooks.rules.ts';

export interface WebhookRow {
  readonly id: number;
  readonly owner: string;
  readonly url: string;
  readonly kinds: NoticeKind[];
  readonly scope: WebhookScope;
  readonly names: DatasetNames | null;
  readonly status: WebhookStatus;
  readonly disabledReason: string | null;
  readonly disabledAt: Date | null;
  readonly createdAt: Date;
  readonly failureCount: number;
  readonly nextAttemptAt: Date;
  readonly lastAttemptAt: Date | null;
  readonly lastNotice: string | null;
  readonly lastStatus: number | null;
  readonly lastAttempts: number | null;
  readonly lastError: string | null;
  readonly keyId: string;
  readonly salt: Buffer;
}

const webhookColumns = sql`w.id, w.owner, w.url, w.kinds, w.scope, w.names, w.status,
  w.disabled_reason as "disabledReason", w.disabled_at as "disabledAt", w.created_at as "createdAt",
  w.failure_count as "failureCount", w.next_attempt_at as "nextAttemptAt", w.last_attempt_at as "lastAttemptAt",
  w.last_notice as "lastNotice", w.last_status as "lastStatus", w.last_attempts as "lastAttempts",
  w.last_error as "lastError", w.key_id as "keyId", w.salt`;

/** Own ones; operators see those of all. */
const visibleWebhook = (viewer: Viewer): RawBuilder<unknown> =>
  may(viewer, 'manageWebhooks') ? sql`true` : sql`w.owner = ${viewer.principal}`;

/** A webhook that the viewer may manage; undefined = there is none. UNAUTHENTICATED without a token. */
export async function findWebhook(
  db: Db,
  viewer: Viewer,
  id: number,
): Promise<WebhookRow | undefined> {
  demand(viewer, 'manageWebhooks', viewer.principal);
  return firstRow(
    db,
    sql<WebhookRow>`select ${webhookColumns} from webhooks w where w.id = ${id} and ${visibleWebhook(viewer)}`,
  );
}

/** The webhooks that the viewer may manage, oldest first. */
export async function listWebhooks(
  db: Db,
  viewer: Viewer,
  page: PageArguments,
): Promise<Page<WebhookRow>> {
  demand(viewer, 'manageWebhooks', viewer.principal);
  return readPage<WebhookRow>(
    db,
    {
      order: 'webhooks:id',
      keys: [{ sql: sql`w.id`, type: 'bigint' }],
      select: webhookColumns,
      from: sql`webhooks w`,
      where: visibleWebhook(viewer),
    },
    page,
  );
}
