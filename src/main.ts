import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { TokenEntity } from './access/tokens.entity.ts';
import { createFirstToken } from './access/tokens.service.ts';
import type { Means } from './api/context.ts';
import { ProgressFeed } from './api/progress-feed.ts';
import { MassStoreEntity, SiteEntity } from './backups/mass-stores.entity.ts';
import { listMassStores } from './backups/mass-stores.service.ts';
import { prepareStores } from './backups/prepare-stores.service.ts';
import { hideSecrets, type Config } from './config.ts';
import { Doorbell, listen } from './database/doorbell.ts';
import { findEmbeddedPostgres, openEmbeddedPostgres } from './database/embedded.ts';
import { JobQueue } from './database/jobs.ts';
import { migrate, migrationState, refuseNewerDatabase } from './database/migrate.ts';
import { openDatabase, type Db } from './database/orm.ts';
import { openReadPool, type ReadPool } from './database/read-pool.ts';
import { messageOf, SweepbookError } from './errors.ts';
import { EventFeed } from './events/event-feed.ts';
import { readEpoch } from './events/events.queries.ts';
import { keepFolding } from './production/totals.service.ts';
import { NoticeDelivery } from './notices/notice-delivery.ts';
import { readWebhookKey } from './notices/signature.ts';
import { greet } from './greeting.ts';
import { serveHttp } from './server/http.ts';
import { makeLog } from './server/log.ts';
import { readForeign, type Foreign } from './storage/import-sources.ts';
import { loadDrivers, OpenStores } from './storage/open.ts';
import { readPublishFile, type PublishSettings } from './storage/publish-settings.ts';
import { readStoreFile, type StoreFile } from './storage/store-file.ts';
import { startWorkers } from './worker/start.ts';

/** What was opened, to be closed in reverse order, each once, whatever the others do. */
class Opened {
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

const embeddedFolder = (config: Config) => join(config.home, 'postgres');

async function databaseUrl(
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

interface Base extends Foreign {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly publish: PublishSettings | undefined;
  readonly url: string;
}

async function openBase(config: Config, opened: Opened, log: Logger, owns: boolean): Promise<Base> {
  // First of all: who has made a mistake in it waits for no database.
  const foreign = readForeign(config);
  const publish = config.publish === undefined ? undefined : readPublishFile(config.publish);
  const ofFile = storeFileOf(config).stores;
  await loadDrivers(ofFile);
  const stores = new OpenStores(ofFile);
  const url = await databaseUrl(config, opened, log, owns);
  if (config.migrate && owns) {
    const applied = await migrate(url);
    if (applied.length > 0) log.info({ applied }, 'migrations applied');
  }
  const orm = await openDatabase({
    url,
    entities: [TokenEntity, SiteEntity, MassStoreEntity],
    statementSeconds: config.querySeconds,
  });
  opened.add('database', () => orm.close());
  const state = await migrationState(orm);
  refuseNewerDatabase(state);
  if (state.pending.length > 0) {
    throw new SweepbookError(
      'UNAVAILABLE',
      `the database lacks ${state.pending.length} migrations: run "sweepbook migrate"`,
      { pending: state.pending },
    );
  }
  const jobs = await JobQueue.open({
    url,
    supervise: true,
    onError: (error) =>
      log.warn({ error: hideSecrets(error.message) }, 'job queue: will try again'),
  });
  opened.add('job queue', () => jobs.close());
  return { db: orm.em, jobs, stores, ...foreign, publish, url };
}

const storeFileOf = ({ stores }: Config): StoreFile =>
  stores === undefined ? { stores: [], policies: [] } : readStoreFile(stores);

/** The site, its default store and the first token: made once, at the very first start. */
async function prepareFirstStart(
  config: Config,
  { db, jobs, stores }: Base,
  log: Logger,
): Promise<string | undefined> {
  const folder = { site: config.site, root: config.storeRoot, urlPrefix: config.storeUrlPrefix };
  const { changed, waiting } = await prepareStores(db, stores, folder, storeFileOf(config));
  if (changed.length > 0) log.info({ stores: changed }, 'mass stores made or changed');
  for (const facts of waiting) log.warn(facts, 'a new mass store cannot be prepared yet');
  for (const row of await listMassStores(db)) await jobs.prepare(row.id);
  return createFirstToken(db, 'operator', (text) => {
    const file = join(config.home, 'operator-token');
    mkdirSync(config.home, { recursive: true });
    writeFileSync(file, `${text}\n`, { mode: 0o600 });
    chmodSync(file, 0o600);
  });
}

export interface RunningSweepbook {
  readonly address: string;
  readonly databaseUrl: string;
  /** The operator token, at the very first start only. */
  readonly token: string | undefined;
  close(): Promise<void>;
}

/** What webhooks are signed with, and what sends their notices, if this server does. */
async function openWebhooks(config: Config, { db }: Base, epoch: string, log: Logger) {
  const webhooks = {
    key: readWebhookKey(config.home, config.webhookKey),
    isPrivateAllowed: config.webhookPrivate,
    timeoutMs: config.webhookTimeoutSeconds * 1000,
  };
  const delivery = config.webhooks
    ? new NoticeDelivery({ ...config, ...webhooks, db, epoch, log })
    : undefined;
  await delivery?.start();
  return { webhooks, delivery };
}

/** Opens everything that `serve` runs: database, first start, event feed, worker, HTTP. */
export async function openSweepbook(config: Config, log: Logger): Promise<RunningSweepbook> {
  const opened = new Opened();
  try {
    const base = await openBase(config, opened, log, true);
    const token = await prepareFirstStart(config, base, log);
    const { db, url } = base;
    const doorbell = new Doorbell(db);
    const trouble = (message: string) =>
      log.warn({ error: hideSecrets(message) }, 'event feed: will try again');
    const feed = new EventFeed(db, trouble);
    const progress = new ProgressFeed();
    await feed.start();
    const epoch = await readEpoch(db);
    const { webhooks, delivery } = await openWebhooks(config, base, epoch, log);
    if (delivery) opened.add('webhooks', () => delivery.stop());
    const ring = () => {
      feed.ring();
      doorbell.ring();
      delivery?.ring();
    };
    const worker = config.worker ? startWorkers(config, base, log, ring) : undefined;
    const listener = listen(url, {
      onRing: () => {
        feed.ring();
        worker?.ring();
        delivery?.ring();
      },
      onProgress: (payload) => progress.tell(payload),
      onTrouble: trouble,
    });
    opened.add('event feed', async () => {
      await doorbell.close();
      await listener.close();
      await feed.close();
    });
    const folding = keepFolding(db, (error) =>
      log.warn({ error: hideSecrets(messageOf(error)) }, 'totals: will be folded later'),
    );
    opened.add('totals', () => folding.close());
    if (worker) opened.add('worker', () => worker.stop());
    const means: Means = {
      ...base,
      feed,
      progress,
      epoch,
      site: config.site,
      leaseSeconds: config.leaseSeconds,
      retryBaseMs: config.retryBaseMs,
      webhooks,
      suspicionJobs: config.suspicionJobs,
      ring: () => {
        ring();
        worker?.ring();
      },
    };
    const reads = config.fastReads ? openReads(url, config, opened, log) : undefined;
    const server = await serveHttp(means, { ...config, log, reads });
    opened.add('HTTP server', () => server.close());
    const { address } = server;
    log.info({ address, database: hideSecrets(url) }, 'ready');
    return { address, databaseUrl: url, token, close: () => opened.closeAll(log) };
  } catch (error) {
    await opened.closeAll(log);
    throw error;
  }
}

function openReads(url: string, config: Config, opened: Opened, log: Logger): ReadPool {
  const reads = openReadPool({
    url,
    poolSize: 8,
    statementSeconds: config.querySeconds,
    onTrouble: (message) => log.warn({ error: hideSecrets(message) }, 'reads: will connect again'),
  });
  opened.add('reads', () => reads.close());
  return reads;
}

/** Runs the server, with its worker, until a signal ends it. */
export async function serve(config: Config): Promise<void> {
  const log = makeLog(config);
  const ended = untilSignal();
  const running = await openSweepbook(config, log);
  greet(config, running.address, running.token);
  log.info({ signal: await ended }, 'going down');
  await running.close();
}

/** Runs one more worker, on this machine, for the server of the same database, until a signal ends it. */
export async function runWorker(config: Config): Promise<void> {
  const log = makeLog(config);
  const opened = new Opened();
  const ended = untilSignal();
  try {
    const base = await openBase(config, opened, log, false);
    const doorbell = new Doorbell(base.db);
    const worker = startWorkers(config, base, log, () => doorbell.ring());
    const listener = listen(base.url, {
      onRing: () => worker.ring(),
      onProgress: () => undefined,
      onTrouble: (message) =>
        log.warn({ error: hideSecrets(message) }, 'worker: will listen again'),
    });
    opened.add('doorbell', async () => {
      await doorbell.close();
      await listener.close();
    });
    opened.add('worker', () => worker.stop());
    log.info({ worker: worker.name, database: hideSecrets(base.url) }, 'worker ready');
    log.info({ signal: await ended }, 'going down');
  } finally {
    await opened.closeAll(log);
  }
}

/** Applies missing migrations and says which. */
export async function migrateDatabase(config: Config): Promise<{ applied: string[] }> {
  const log = makeLog({ ...config, logLevel: 'warn' });
  const opened = new Opened();
  try {
    const running = config.databaseUrl ?? (await findEmbeddedPostgres(embeddedFolder(config)));
    const url = running ?? (await databaseUrl(config, opened, log, true));
    return { applied: await migrate(url) };
  } finally {
    await opened.closeAll(log);
  }
}

/** The first SIGINT or SIGTERM; a second one ends the process where it stands. */
function untilSignal(): Promise<string> {
  return new Promise((resolve) => {
    let isFirst = true;
    const onSignal = (signal: string) => {
      if (!isFirst) process.exit(130);
      isFirst = false;
      resolve(signal);
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}
