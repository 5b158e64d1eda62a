import { collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { demand, type Viewer } from '../access/policy.ts';
import type { Means } from '../api/context.ts';
import { listMassStores } from '../backups/mass-stores.service.ts';
import { rows, sql } from '../database/sql.ts';

/** What is counted in the database is asked once in so long, however often it is scraped. */
const freshMs = 15_000;

export interface SocketCounts {
  readonly sockets: number;
  readonly operations: number;
}

/**
 * GET /metrics for Prometheus, for operators: what it counts is not everybody's to see. It answers also
 * when the database does not; sweepbook_database_up is 0 then.
 */
export function serveMetrics(
  app: FastifyInstance,
  means: Means,
  viewerOf: (request: FastifyRequest) => Viewer,
  socketCounts: () => SocketCounts,
): void {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const duration = new Histogram({
    name: 'sweepbook_http_request_duration_seconds',
    help: 'From the first byte of a request to the last of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
    registers,
  });
  const gauge = <Label extends string>(name: string, help: string, labelNames: Label[] = []) =>
    new Gauge({ name: `sweepbook_${name}`, help, labelNames, registers });
  const counts = new StoredCounts(means, {
    up: gauge('database_up', '1 = the database answered the last time it was asked.'),
    stores: gauge('mass_store_up', '1 = the mass store can be used.', ['store']),
    trusted: gauge('mass_store_trusted', '1 = it passed its last self-test, or had none yet.', [
      'store',
    ]),
    alarms: gauge('audit_alarms', 'Audits that wait for somebody to look.', ['store']),
    datasets: gauge('datasets', 'Datasets.', ['kind', 'status', 'bad']),
    backups: gauge('backups_unfinished', 'Backup records that are not confirmed.', ['status']),
    sweeps: gauge('sweeps_running', 'Sweeps under way.'),
    oldest: gauge('sweep_oldest_seconds', 'Age of the oldest sweep under way; 0 = none.'),
  });
  const sockets = gauge('websockets', 'Open WebSockets.');
  const operations = gauge('websocket_operations', 'Operations under way on WebSockets.');

  app.addHook('onResponse', async (request, reply) => {
    duration.observe(
      {
        method: request.method,
        // The pattern, never the address: names of datasets would be labels without end.
        route: request.routeOptions.url ?? 'none',
        status: reply.statusCode,
      },
      reply.elapsedTime / 1000,
    );
  });
  app.get('/metrics', async (request, reply) => {
    demand(viewerOf(request), 'readMetrics');
    await counts.refresh();
    const now = socketCounts();
    sockets.set(now.sockets);
    operations.set(now.operations);
    return reply.type(registry.contentType).send(await registry.metrics());
  });
}

interface StoredGauges {
  readonly up: Gauge;
  readonly stores: Gauge<'store'>;
  readonly trusted: Gauge<'store'>;
  readonly alarms: Gauge<'store'>;
  readonly datasets: Gauge<'kind' | 'status' | 'bad'>;
  readonly backups: Gauge<'status'>;
  readonly sweeps: Gauge;
  readonly oldest: Gauge;
}

class StoredCounts {
  private asked = Number.NEGATIVE_INFINITY;
  private asking: Promise<void> | undefined;
  private readonly means: Means;
  private readonly gauges: StoredGauges;

  constructor(means: Means, gauges: StoredGauges) {
    this.means = means;
    this.gauges = gauges;
  }

  async refresh(): Promise<void> {
    if (performance.now() - this.asked < freshMs) return;
    this.asking ??= this.ask().finally(() => (this.asking = undefined));
    await this.asking;
  }

  private async ask(): Promise<void> {
    try {
      await this.read();
      this.gauges.up.set(1);
      this.asked = performance.now();
    } catch {
      // Old figures would look like true ones.
      for (const gauge of Object.values(this.gauges)) gauge.reset();
      this.gauges.up.set(0);
    }
  }

  private async read(): Promise<void> {
    const { db, stores } = this.means;
    const { gauges } = this;
    const [datasets, backups, sweeps, alarms, massStores] = await Promise.all([
      rows(
        db.fork(),
        sql<{ kind: string; status: string; bad: string; n: number }>`
        select kind, status, (bad_mark_count > 0)::text as bad, count(*) as n from datasets group by 1, 2, 3`,
      ),
      // Served by backup_records_unfinished; the confirmed ones would be a scan of everything.
      rows(
        db.fork(),
        sql<{ status: string; n: number }>`
        select status, count(*) as n from backup_records
        where status in ('REQUESTED', 'COPYING', 'COPIED', 'FAILED') group by 1`,
      ),
      rows(
        db.fork(),
        sql<{ n: number; oldest: number }>`
        select count(*) as n, coalesce(extract(epoch from now() - min(requested_at)), 0)::float8 as oldest
        from sweeps where finished_at is null`,
      ),
      rows(
        db.fork(),
        sql<{ store: string; n: number }>`
        select s.name as store, count(*) as n from audits a join mass_stores s on s.id = a.store_id
        where a.state = 'ALARM' group by s.name`,
      ),
      listMassStores(db),
    ]);
    gauges.datasets.reset();
    for (const { n, ...labels } of datasets) gauges.datasets.set(labels, n);
    gauges.backups.reset();
    for (const { n, status } of backups) gauges.backups.set({ status }, n);
    gauges.alarms.reset();
    for (const { store, n } of alarms) gauges.alarms.set({ store }, n);
    gauges.sweeps.set(sweeps[0]?.n ?? 0);
    gauges.oldest.set(sweeps[0]?.oldest ?? 0);
    gauges.stores.reset();
    gauges.trusted.reset();
    for (const row of massStores) {
      const { isUp } = await stores.of(row).probe();
      gauges.stores.set({ store: row.name }, isUp ? 1 : 0);
      gauges.trusted.set({ store: row.name }, row.isTrusted ? 1 : 0);
    }
  }
}
