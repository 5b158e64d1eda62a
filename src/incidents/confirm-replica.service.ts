import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { filesByLfn } from '../files/files.service.ts';
import { isLine } from '../text.ts';

export interface ReplicaPlace {
  readonly lfn: string;
  readonly path: string;
  readonly volume?: string | null | undefined;
  readonly site?: string | null | undefined;
}

/**
 * Tells that a copy of a file is on disk (again): a worker reads it before it counts. A copy that is AVAILABLE
 * is read again and stays so meanwhile. Asked for twice while it waits is asked for once.
 */
export async function confirmReplica(
  db: Db,
  viewer: Viewer,
  input: ReplicaPlace,
  defaultSite: string,
): Promise<{ checkId: number; changed: boolean }> {
  demand(viewer, 'confirmReplica');
  if (!input.path.startsWith('/') || !isLine(input.path) || Buffer.byteLength(input.path) > 4096) {
    throw badInput('path', input.path, 'an absolute path of at most 4096 bytes, on one line');
  }
  return inTransaction(db, viewer, async (tx) => {
    const [file] = await filesByLfn(tx, viewer, [input.lfn]);
    if (!file) throw new Error('filesByLfn found nothing and said nothing');
    const replicaId =
      (await replicaAt(tx, viewer, file.id, input)) ??
      (await newReplica(tx, viewer, file.id, input, defaultSite));
    await rows(
      tx,
      sql`update replicas set status = 'STAGING' where id = ${replicaId} and status = 'LOST'`,
    );
    const made = await firstRow(
      tx,
      sql<{
        id: number;
      }>`insert into replica_checks (replica_id, file_id) values (${replicaId}, ${file.id})
        on conflict do nothing returning id`,
    );
    const check = await firstRow(
      tx,
      sql<{ id: number; isNew: boolean }>`
      select id, xmin = pg_current_xact_id()::xid as "isNew" from replica_checks
      where replica_id = ${replicaId} order by id desc limit 1`,
    );
    if (!check) throw new Error(`no check of replica ${replicaId}`);
    return { checkId: check.id, changed: made !== undefined || check.isNew };
  });
}

async function replicaAt(
  tx: Db,
  viewer: Viewer,
  fileId: number,
  input: ReplicaPlace,
): Promise<number | undefined> {
  const found = await rows(
    tx,
    sql<{ id: number; volume: string; site: string }>`
    select p.id, v.name as volume, s.name as site from replicas p join volumes v on v.id = p.volume_id join sites s on s.id = v.site_id
    where p.file_id = ${fileId} and p.path = ${input.path}
      and ${input.volume == null ? sql`true` : sql`v.name = ${input.volume}`}
      and ${input.site == null ? sql`true` : sql`s.name = ${input.site}`} order by p.id limit 2 for no key update of p`,
  );
  if (found.length > 1) {
    throw badInput(
      'volume',
      null,
      `${input.path} is registered on ${found.map((r) => r.volume).join(' and ')}: say which`,
    );
  }
  if (found[0]) demand(viewer, 'confirmReplica', { site: found[0].site });
  return found[0]?.id;
}

async function newReplica(
  tx: Db,
  viewer: Viewer,
  fileId: number,
  input: ReplicaPlace,
  defaultSite: string,
): Promise<number> {
  const site = input.site ?? defaultSite;
  demand(viewer, 'confirmReplica', { site });
  const known = await firstRow(tx, sql<{ id: number }>`select id from sites where name = ${site}`);
  if (!known) {
    throw new SweepbookError('NOT_FOUND', `site ${site} is not known here`, {
      field: 'site',
      value: site,
    });
  }
  const volume = input.volume ?? 'default';
  if (volume === '' || volume.length > 200 || !isLine(volume)) {
    throw badInput('volume', volume, '1 to 200 printable characters');
  }
  await rows(
    tx,
    sql`insert into volumes (site_id, name) values (${known.id}, ${volume}) on conflict do nothing`,
  );
  const made = await firstRow(
    tx,
    sql<{ id: number }>`
    insert into replicas (file_id, volume_id, path, status)
    select ${fileId}::bigint, v.id, ${input.path}::text, 'STAGING' from volumes v
    where v.site_id = ${known.id} and v.name = ${volume} returning id`,
  );
  if (!made) throw new Error(`no replica at ${input.path}`);
  return made.id;
}
