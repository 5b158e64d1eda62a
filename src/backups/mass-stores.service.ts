import type { InferEntity } from '@mikro-orm/core';
import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import type { ConfiguredStore } from '../storage/store-file.ts';
import { MassStoreEntity, SiteEntity } from './mass-stores.entity.ts';

export type MassStoreRow = InferEntity<typeof MassStoreEntity>;

export interface DefaultStore {
  readonly site: string;
  readonly root: string;
  readonly urlPrefix: string | undefined;
}

const defaultName = 'default';

/** Makes this site and its default mass store at the first start; later starts keep what is there. */
export async function prepareDefaultStore(
  db: Db,
  wanted: DefaultStore,
): Promise<{ store: MassStoreRow; isNew: boolean }> {
  return inTransaction(db, { principal: 'first start' }, async (tx) => {
    await tx.execute('lock table sites, mass_stores in share row exclusive mode');
    const site =
      (await tx.findOne(SiteEntity, { name: wanted.site })) ??
      tx.create(SiteEntity, { name: wanted.site });
    const known = await tx.findOne(MassStoreEntity, { isDefault: true }, { populate: ['site'] });
    if (known) {
      await tx.flush();
      return { store: known, isNew: false };
    }
    const store = tx.create(MassStoreEntity, {
      site,
      name: defaultName,
      kind: 'directory',
      root: wanted.root,
      urlPrefix: wanted.urlPrefix ?? null,
      isDefault: true,
    });
    await tx.flush();
    return { store, isNew: true };
  });
}

export interface TakenStore {
  readonly name: string;
  readonly isNew: boolean;
}

/**
 * Takes the stores of the store file over into the tables: new ones are made, known ones take their new settings.
 * A store that left the file is kept for what it holds, and takes no new backups. Returns what changed.
 * A store does not become another kind: what was confirmed in it lies there (BAD_USER_INPUT).
 */
export async function takeOverStores(
  db: Db,
  siteName: string,
  wanted: readonly ConfiguredStore[],
): Promise<TakenStore[]> {
  return inTransaction(db, { principal: 'store file' }, async (tx) => {
    await tx.execute('lock table sites, mass_stores in share row exclusive mode');
    const site =
      (await tx.findOne(SiteEntity, { name: siteName })) ??
      tx.create(SiteEntity, { name: siteName });
    const known = new Map(
      (await tx.find(MassStoreEntity, {})).map((row): [string, MassStoreRow] => [row.name, row]),
    );
    const hasDefault = wanted.some((store) => store.isDefault);
    const changed: TakenStore[] = [];
    // One default at a time, whatever the order of the statements.
    for (const row of known.values()) {
      const still = wanted.find((store) => store.name === row.name);
      if (row.isDefault && !(still?.isDefault ?? false) && (hasDefault || !still))
        row.isDefault = false;
    }
    await tx.flush();
    for (const [index, store] of wanted.entries()) {
      // The first one, when the file names none.
      const isDefault = store.isDefault || (!hasDefault && index === 0);
      const row = known.get(store.name);
      if (!row) {
        tx.create(MassStoreEntity, { site, ...store, isDefault, isPrepared: false });
        changed.push({ name: store.name, isNew: true });
        continue;
      }
      if (row.kind !== store.kind) {
        throw badInput(
          'kind',
          store.kind,
          `store ${store.name} is of the kind ${row.kind}: give the new store another name`,
        );
      }
      const before = JSON.stringify({ ...row, site: null });
      tx.assign(row, { ...store, isDefault, isConfigured: true });
      if (JSON.stringify({ ...row, site: null }) !== before) {
        changed.push({ name: store.name, isNew: false });
      }
    }
    for (const row of known.values()) {
      if (!row.isConfigured || wanted.some((store) => store.name === row.name)) continue;
      row.isConfigured = false;
      changed.push({ name: row.name, isNew: false });
    }
    await tx.flush();
    return changed;
  });
}

export async function listMassStores(db: Db): Promise<MassStoreRow[]> {
  return db.fork().find(MassStoreEntity, {}, { orderBy: { name: 'asc' }, populate: ['site'] });
}

export interface CopiesInStore {
  readonly confirmed: number;
  /** Asked for, and neither confirmed nor given up. */
  readonly waiting: number;
}

/** How many copies lie in stores (kept by the database, not counted), and how many are owed there. */
export async function copiesInStores(
  db: Db,
  storeIds: readonly number[],
): Promise<Map<number, CopiesInStore>> {
  const found = await rows(
    db.fork(),
    sql<CopiesInStore & { id: number }>`
    select s.id, (select coalesce(sum(files), 0) from (
        select files from file_totals where store_id = s.id
        union all select files from file_total_changes where store_id = s.id) t) as confirmed,
      (select count(*) from backup_records b
        where b.store_id = s.id and b.status in ('REQUESTED', 'COPYING', 'COPIED')) as waiting
    from mass_stores s where s.id = any (${storeIds}::integer[])`,
  );
  return new Map(found.map(({ id, ...copies }) => [id, copies]));
}

/** The store of this name, or the default one; NOT_FOUND. */
export async function getMassStore(db: Db, name: string | null | undefined): Promise<MassStoreRow> {
  const row = await db
    .fork()
    .findOne(MassStoreEntity, name == null ? { isDefault: true } : { name }, {
      populate: ['site'],
    });
  if (row?.isConfigured) return row;
  if (row) {
    throw new SweepbookError(
      'NOT_FOUND',
      `store ${row.name} is not in the store file any more, and takes nothing: put it back, or name another one of "store list"`,
      { store: name },
    );
  }
  throw new SweepbookError(
    'NOT_FOUND',
    name == null
      ? 'no mass store is configured as the default one'
      : `store ${name} is not known here: look at "store list"`,
    { store: name },
  );
}
