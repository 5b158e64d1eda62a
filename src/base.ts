import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Identity } from './access/identity.ts';
import { readIssuersFile } from './access/issuers-file.ts';
import { TokenEntity } from './access/tokens.entity.ts';
import { MassStoreEntity, SiteEntity } from './backups/mass-stores.entity.ts';
import { hideSecrets, type Config } from './config.ts';
import { findEmbeddedPostgres, openEmbeddedPostgres } from './database/embedded.ts';
import { JobQueue } from './database/jobs.ts';
import {
  migrate,
  migrationState,
  refuseNewerDatabase,
  refuseOldServer,
} from './database/migrate.ts';
import { openDatabase, type Db } from './database/orm.ts';
import { reaching } from './database/reach.ts';
import { messageOf, SweepbookError } from './errors.ts';
import { readForeign, type Foreign } from './storage/import-sources.ts';
import { loadDrivers, OpenStores } from './storage/open.ts';
import { readPublishFile, type PublishSettings } from './storage/publish-settings.ts';
import { readStoreFile, type StoreFile } from './storage/store-file.ts';

/** What was opened, to be closed in reverse order, each once, whatever the others do. */
export class Opened {
  private readonly closers: { readonly name: string; readonly close: () => Promise<unknown> }[] =
    [];

  add(name: string, close: () => Promise<unknown>): void {
    this.closers.push({ name, close });
  }

  async closeAll(log: Logger): Promise<void> {
    for (const { name, close } of this.closers.splice(0).toReversed()) {
      log.debug({ closing: name }, 'going down');
      await close().catch((error: unknown) =>
        log.warn({ error: messageOf(error) }, `closing ${name} failed`),
      );
    }
  }
}

export const embeddedFolder = (config: Config) => join(config.home, 'postgres');

export async function databaseUrl(
  config: Config,
  opened: Opened,
  log: Logger,
  owns: boolean,
): Promise<string> {
  if (config.databaseUrl !== undefined) return config.databaseUrl;
  const folder = embeddedFolder(config);
  const running = owns ? undefined : await findEmbeddedPostgres(folder);
  if (running !== undefined) return running;
  if (!owns) {
    throw new SweepbookError(
      'UNAVAILABLE',
      `no embedded database runs in ${folder}: start "sweepbook serve" first, or set DATABASE_URL`,
      { folder },
    );
  }
  mkdirSync(config.home, { recursive: true });
  const postgres = await openEmbeddedPostgres({
    folder,
    log: (line) => log.info({ postgres: true }, line),
  });
  opened.add('embedded PostgreSQL', () => postgres.close());
  return postgres.url;
}

export interface Base extends Foreign {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly identity: Identity;
  readonly publish: PublishSettings | undefined;
  readonly url: string;
}

/** Migrates where that is allowed, and refuses what this program does not know. */
async function bringUpToDate(db: Db, url: string, may: boolean, log: Logger): Promise<void> {
  await reaching(url, () => refuseOldServer(db));
  let state = await migrationState(db);
  if (state.pending.length > 0 && may) {
    const applied = await migrate(url);
    if (applied.length > 0) log.info({ applied }, 'migrations applied');
    state = await migrationState(db);
  }
  refuseNewerDatabase(state);
  if (state.pending.length > 0) {
    throw new SweepbookError(
      'UNAVAILABLE',
      `the database lacks ${state.pending.length} migrations: run "sweepbook migrate"`,
      { pending: state.pending },
    );
  }
}

export async function openBase(
  config: Config,
  opened: Opened,
  log: Logger,
  owns: boolean,
): Promise<Base> {
  // First of all: who has made a mistake in it waits for no database.
  const foreign = readForeign(config);
  const issuers = config.issuers === undefined ? undefined : readIssuersFile(config.issuers);
  const publish = config.publish === undefined ? undefined : readPublishFile(config.publish);
  const ofFile = storeFileOf(config).stores;
  await loadDrivers(ofFile);
  const stores = new OpenStores(ofFile);
  const url = await databaseUrl(config, opened, log, owns);
  const orm = await openDatabase({
    url,
    entities: [TokenEntity, SiteEntity, MassStoreEntity],
    statementSeconds: config.querySeconds,
  });
  opened.add('database', () => orm.close());
  await bringUpToDate(orm.em, url, config.migrate && owns, log);
  const jobs = await JobQueue.open({
    url,
    supervise: true,
    onError: (error) =>
      log.warn({ error: hideSecrets(error.message) }, 'job queue: will try again'),
  });
  opened.add('job queue', () => jobs.close());
  return {
    db: orm.em,
    jobs,
    stores,
    identity: new Identity(orm.em, issuers),
    ...foreign,
    publish,
    url,
  };
}

export const storeFileOf = ({ stores }: Config): StoreFile =>
  stores === undefined ? { stores: [], policies: [], pools: [] } : readStoreFile(stores);
