import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { AuditTrail } from './access/audit-trail.ts';
import { createFirstToken } from './access/tokens.service.ts';
import type { Means } from './api/context.ts';
import { ProgressFeed } from './api/progress-feed.ts';
import { listMassStores } from './backups/mass-stores.service.ts';
import { prepareStores } from './backups/prepare-stores.service.ts';
import { databaseUrl, embeddedFolder, openBase, Opened, storeFileOf, type Base } from './base.ts';
import { hideSecrets, type Config } from './config.ts';
import { findEmbeddedPostgres } from './database/embedded.ts';
import { migrate } from './database/migrate.ts';
import type { Db } from './database/orm.ts';
import type { StoreFile } from './storage/store-file.ts';
import { Doorbell, listen } from './database/doorbell.ts';
import { openReadPool, type ReadPool } from './database/read-pool.ts';
import { messageOf } from './errors.ts';
import { EventFeed } from './events/event-feed.ts';
import { readEpoch } from './events/events.queries.ts';
import { keepFolding } from './production/totals.service.ts';
import { NoticeDelivery } from './notices/notice-delivery.ts';
import { readWebhookKey } from './notices/signature.ts';
import { greet } from './greeting.ts';
import { serveHttp } from './server/http.ts';
import { makeLog } from './server/log.ts';
import { listPools, preparePoolOnce, takeOverPools } from './pools/pools.service.ts';
import { startWorkers } from './worker/start.ts';

/** The site, its default store and the first token: made once, at the very first start. */
async function prepareFirstStart(
  config: Config,
  { db, jobs, stores }: Base,
  log: Logger,
): Promise<string | undefined> {
  const folder = { site: config.site, root: config.storeRoot, urlPrefix: config.storeUrlPrefix };
  const ofFile = storeFileOf(config);
  const { changed, waiting } = await prepareStores(db, stores, folder, ofFile);
  if (changed.length > 0) log.info({ stores: changed }, 'mass stores made or changed');
  for (const facts of waiting) log.warn(facts, 'a new mass store cannot be prepared yet');
  await preparePools(config, db, ofFile, log);
  for (const row of await listMassStores(db)) await jobs.prepare(row.id);
  return createFirstToken(db, 'operator', (text) => {
    const file = join(config.home, 'operator-token');
    mkdirSync(config.home, { recursive: true });
    writeFileSync(file, `${text}\n`, { mode: 0o600 });
    chmodSync(file, 0o600);
  });
}

/** The pools of the store file; the folder of a new one is made where it can be. */
async function preparePools(
  { site }: Config,
  db: Db,
  { pools }: StoreFile,
  log: Logger,
): Promise<void> {
  const changed = await takeOverPools(db, site, pools);
  if (changed.length > 0) log.info({ pools: changed }, 'pools made or changed');
  for (const pool of await listPools(db.fork())) {
    const why = await preparePoolOnce(db, pool);
    if (why !== undefined) log.warn({ pool: pool.name, why }, 'a new pool cannot be prepared yet');
  }
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
    const trail = openTrail(config, base, log);
    opened.add('audit trail', () => trail.close());
    const means: Means = {
      ...base,
      trail,
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

function openTrail({ auditDays, auditReads }: Config, { db }: Base, log: Logger): AuditTrail {
  return new AuditTrail({
    db,
    days: auditDays,
    reads: auditReads,
    onTrouble: (error) =>
      log.error({ error: hideSecrets(error) }, 'the audit trail cannot be written: once more soon'),
  });
}

function openReads(url: string, config: Config, opened: Opened, log: Logger): ReadPool {
  const reads = openReadPool({
    url,
    poolSize: 12,
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
