import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, messageOf, SweepbookError } from '../errors.ts';
import type { PoolSettings } from '../storage/pool-settings.ts';
import { isPoolHere, preparePool } from '../storage/pool-volume.ts';
import type { AccessProtocol } from './pools.rules.ts';

/** A pool as the tables know it. */
export interface PoolRow {
  readonly id: number;
  readonly name: string;
  readonly site: string;
  readonly volume: string;
  readonly volumeId: number;
  readonly path: string;
  readonly urls: Partial<Record<AccessProtocol, string>>;
  readonly sizeLimit: number;
  readonly usedBytes: number;
  readonly roles: readonly string[];
  readonly pinSeconds: number;
  readonly mostPinSeconds: number;
  readonly fileLimit: number;
  readonly concurrency: number;
  readonly isPrepared: boolean;
  readonly isConfigured: boolean;
}

const columns = sql`o.id, o.name, s.name as site, v.name as volume, v.id as "volumeId", o.path, o.urls,
  o.size_limit as "sizeLimit", o.used_bytes as "usedBytes", o.roles, o.pin_seconds as "pinSeconds",
  o.most_pin_seconds as "mostPinSeconds", o.file_limit as "fileLimit", o.concurrency,
  o.is_prepared as "isPrepared", o.is_configured as "isConfigured"`;
const tables = sql`pools o join volumes v on v.id = o.volume_id join sites s on s.id = v.site_id`;

/** The pools that are configured, and those that were, by name. */
export async function listPools(db: Db): Promise<PoolRow[]> {
  return rows(db, sql<PoolRow>`select ${columns} from ${tables} order by o.name`);
}

/** The pool of this name, or the only one; NOT_FOUND, BAD_USER_INPUT when there are several. */
export async function getPool(db: Db, name: string | null | undefined): Promise<PoolRow> {
  const known = (await listPools(db)).filter((pool) => pool.isConfigured);
  if (name == null && known.length > 1) {
    throw badInput(
      'pool',
      null,
      `there are several: name one of ${known.map((pool) => pool.name).join(', ')}`,
    );
  }
  const found = name == null ? known[0] : known.find((pool) => pool.name === name);
  if (found) return found;
  throw new SweepbookError(
    'NOT_FOUND',
    name == null
      ? 'no pool is configured: name one in the store file'
      : `pool ${name} is not known here: look at "pool list"`,
    { pool: name ?? null },
  );
}

/**
 * Takes the pools of the store file over into the tables. A pool keeps its volume and its folder for good; one that
 * left the file takes no more copies, and jobs are sent there no more. Returns the names of what changed.
 */
export async function takeOverPools(
  db: Db,
  defaultSite: string,
  wanted: readonly PoolSettings[],
): Promise<string[]> {
  return inTransaction(db, { principal: 'store file' }, async (tx) => {
    await tx.execute('lock table sites, volumes, pools in share row exclusive mode');
    const before = new Map((await listPools(tx)).map((pool) => [pool.name, pool]));
    for (const pool of wanted) await takeOver(tx, defaultSite, pool, before.get(pool.name));
    await rows(
      tx,
      sql`update pools set is_configured = false
        where is_configured and name <> all (${wanted.map((pool) => pool.name)}::text[])`,
    );
    const told = (pool: PoolRow | undefined) => JSON.stringify({ ...pool, usedBytes: 0 });
    return (await listPools(tx))
      .filter((pool) => told(pool) !== told(before.get(pool.name)))
      .map((pool) => pool.name);
  });
}

async function takeOver(
  tx: Db,
  defaultSite: string,
  pool: PoolSettings,
  known: PoolRow | undefined,
): Promise<void> {
  const site = pool.site ?? defaultSite;
  const volume = pool.volume ?? pool.name;
  if (known && (known.path !== pool.path || known.volume !== volume || known.site !== site)) {
    throw badInput(
      'path',
      pool.path,
      `pool ${pool.name} is volume ${known.volume} of ${known.site} in ${known.path}, and stays there: give the new pool another name`,
    );
  }
  const values = sql`urls = ${JSON.stringify(pool.urls)}::jsonb, size_limit = ${pool.sizeLimit},
    roles = ${pool.roles}::text[], pin_seconds = ${pool.pinHours * 3600},
    most_pin_seconds = ${pool.mostPinHours * 3600}, file_limit = ${pool.filesPerPrincipal},
    concurrency = ${pool.concurrency}, is_configured = true`;
  if (known) {
    await changedRows(tx, sql`update pools set ${values} where id = ${known.id} returning id`);
    return;
  }
  await rows(tx, sql`insert into sites (name) values (${site}) on conflict do nothing`);
  await rows(
    tx,
    sql`insert into volumes (site_id, name, kind) select id, ${volume}::text, 'READ_ONLY_POOL' from sites
      where name = ${site} on conflict do nothing`,
  );
  await firstRow(
    tx,
    sql`insert into pools (name, volume_id, path, urls, size_limit, roles, pin_seconds, most_pin_seconds, file_limit, concurrency)
      select ${pool.name}::text, v.id, ${pool.path}::text, ${JSON.stringify(pool.urls)}::jsonb, ${pool.sizeLimit}::bigint,
        ${pool.roles}::text[], ${pool.pinHours * 3600}::integer, ${pool.mostPinHours * 3600}::integer,
        ${pool.filesPerPrincipal}::integer, ${pool.concurrency}::integer
      from volumes v join sites s on s.id = v.site_id where v.name = ${volume} and s.name = ${site} returning id`,
  );
}

/** Makes the folder of a pool that has none yet; returns why it could not, to be tried again. */
export async function preparePoolOnce(db: Db, pool: PoolRow): Promise<string | undefined> {
  if (pool.isPrepared || !pool.isConfigured) return undefined;
  try {
    await preparePool(pool);
  } catch (error) {
    return messageOf(error);
  }
  await inTransaction(db, { principal: 'store file' }, (tx) =>
    rows(tx, sql`update pools set is_prepared = true where id = ${pool.id}`),
  );
  return undefined;
}

/** The pools that this host has mounted. */
export async function poolsHere(db: Db): Promise<PoolRow[]> {
  const known = (await listPools(db.fork())).filter((pool) => pool.isConfigured && pool.isPrepared);
  const here = await Promise.all(known.map((pool) => isPoolHere(pool)));
  return known.filter((_, at) => here[at]);
}
