import { demand, type Viewer } from '../access/policy.ts';
import { isInGroup } from '../access/groups.queries.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import type { PublishSettings, Quota } from '../storage/publish-settings.ts';
import { isLine } from '../text.ts';

/** Whose quota: a user's own, or that of a group. */
export interface QuotaHolder {
  readonly kind: 'USER' | 'GROUP';
  readonly name: string;
}

/** What is published, and about to be. */
export interface QuotaUse {
  readonly files: number;
  readonly bytes: number;
  readonly running: number;
}

export interface QuotaState {
  readonly holder: QuotaHolder;
  readonly limit: Quota;
  readonly used: QuotaUse;
  /** An operator has set it; else it is the default of the site. */
  readonly isSet: boolean;
}

const holders = 77_353;

/** The limit of a holder: what operators have set, else the default of the site. */
async function limitOf(
  db: Db,
  { quota }: PublishSettings,
  { kind, name }: QuotaHolder,
): Promise<{ limit: Quota; isSet: boolean }> {
  const set = await firstRow(
    db,
    sql<Quota>`select files, bytes, running from publication_quotas where kind = ${kind} and name = ${name}`,
  );
  return { limit: set ?? (kind === 'USER' ? quota.user : quota.group), isSet: set !== undefined };
}

/** FAILED and WITHDRAWN count no more. */
async function useOf(db: Db, { kind, name }: QuotaHolder, but: number): Promise<QuotaUse> {
  const charged =
    kind === 'GROUP'
      ? sql`charged_group = ${name}`
      : sql`charged_group is null and requested_by = ${name}`;
  const row = await firstRow(
    db,
    sql<QuotaUse>`
    select coalesce(sum(file_count), 0)::bigint as files, coalesce(sum(size_bytes), 0)::bigint as bytes,
      count(*) filter (where finished_at is null) as running
    from publications where ${charged} and status not in ('FAILED', 'WITHDRAWN') and id <> ${but}`,
  );
  return row ?? { files: 0, bytes: 0, running: 0 };
}

/**
 * Refuses what would go beyond a quota (QUOTA_EXCEEDED, with limit, used and asked). In a transaction: whoever asks for
 * the same holder waits, so that two cannot take the last room.
 */
export async function demandQuota(
  tx: Db,
  settings: PublishSettings,
  holder: QuotaHolder,
  asked: { readonly files: number; readonly bytes: number; readonly but?: number },
): Promise<void> {
  await rows(
    tx,
    sql`select pg_advisory_xact_lock(${holders}, hashtext(${`${holder.kind} ${holder.name}`}))`,
  );
  const { limit } = await limitOf(tx, settings, holder);
  const used = await useOf(tx, holder, asked.but ?? 0);
  const wanted: QuotaUse = { files: asked.files, bytes: asked.bytes, running: 1 };
  for (const what of ['running', 'files', 'bytes'] as const) {
    if (used[what] + wanted[what] <= limit[what]) continue;
    const whose = holder.kind === 'USER' ? holder.name : `group ${holder.name}`;
    const unit = what === 'running' ? 'requests under way' : what;
    throw new SweepbookError(
      'QUOTA_EXCEEDED',
      `${whose} may have ${limit[what]} ${unit}, has ${used[what]}, and asks for ${wanted[what]} more: ` +
        (what === 'running'
          ? 'wait for one to end, or withdraw one'
          : 'publish less, or ask an operator for a larger quota'),
      { holder, what, limit: limit[what], used: used[what], asked: wanted[what] },
    );
  }
}

/** What somebody may publish, and has. A user sees his own quota and those of his groups. */
export async function quotaOf(
  db: Db,
  viewer: Viewer,
  settings: PublishSettings,
  holder: QuotaHolder,
): Promise<QuotaState> {
  const isMine =
    holder.kind === 'USER'
      ? holder.name === viewer.principal
      : await isInGroup(db, viewer, holder.name);
  demand(viewer, 'readPublications', isMine ? viewer.principal : undefined);
  return {
    holder,
    ...(await limitOf(db, settings, holder)),
    used: await useOf(db, holder, 0),
  };
}

/** Sets the quota of a user or a group; null = the default of the site again. */
export async function setQuota(
  db: Db,
  viewer: Viewer,
  { kind, name }: QuotaHolder,
  limit: Quota | null,
): Promise<void> {
  demand(viewer, 'managePublishing');
  for (const [field, value] of Object.entries(limit ?? {})) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw badInput(field, value, 'a count from 0 to 2^53−1');
    }
  }
  if (name === '' || name.length > 128 || !isLine(name)) {
    throw badInput('name', name, '1 to 128 printable characters');
  }
  await inTransaction(db, viewer, (tx) =>
    rows(
      tx,
      limit === null
        ? sql`delete from publication_quotas where kind = ${kind} and name = ${name}`
        : sql`insert into publication_quotas (kind, name, files, bytes, running)
            values (${kind}, ${name}, ${limit.files}, ${limit.bytes}, ${limit.running})
            on conflict (kind, name) do update set files = excluded.files, bytes = excluded.bytes,
              running = excluded.running, set_by = current_actor(), set_at = now()`,
    ),
  );
}
