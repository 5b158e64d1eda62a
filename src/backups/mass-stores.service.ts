import type { InferEntity } from '@mikro-orm/core';
import type { Db } from '../database/orm.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
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

export async function listMassStores(db: Db): Promise<MassStoreRow[]> {
  return db.fork().find(MassStoreEntity, {}, { orderBy: { name: 'asc' }, populate: ['site'] });
}

/** The store of this name, or the default one; NOT_FOUND. */
export async function getMassStore(db: Db, name: string | null | undefined): Promise<MassStoreRow> {
  const row = await db
    .fork()
    .findOne(MassStoreEntity, name == null ? { isDefault: true } : { name }, {
      populate: ['site'],
    });
  if (row) return row;
  throw new SweepbookError(
    'NOT_FOUND',
    name == null
      ? 'no mass store is configured as the default one'
      : `store ${name} is not known here: look at "store list"`,
    { store: name },
  );
}
