import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { openEmbeddedPostgres } from '../src/database/embedded.ts';
import { migrate } from '../src/database/migrate.ts';
import type { Report } from './report.ts';

export interface IncidentSizes {
  /** On the volume that crashes, one for each file. */
  readonly replicas: number;
  readonly datasets: number;
  /** How long the other queries are measured before anything happens. */
  readonly calmSeconds: number;
}

const tables = [
  'runs',
  'files',
  'file_runs',
  'replicas',
  'backup_records',
  'datasets',
  'dataset_files',
];

/** All triggers off: what is loaded is as it would be after years, without the years. The log is left out. */
export const load = ({ replicas, datasets }: IncidentSizes) => `
  ${tables.map((table) => `alter table ${table} disable trigger all;`).join('\n')}
  insert into sites (name) values ('bench');
  insert into mass_stores (site_id, name, kind, root, is_default) select id, 'tape', 'directory', '/tape', false from sites
    where name = 'bench';
  insert into volumes (site_id, name) select s.id, v from sites s, unnest(array['d1', 'd2']) v where s.name = 'bench';
  insert into runs (source, number) select 'DATA', n from generate_series(1, 20000) n;
  insert into files (lfn, kind, site_id, stream, size_bytes, adler32, event_count, confirmed_copies, missing_copies)
    select '/bench/' || n % ${datasets} || '/file' || n || '.root', 'MERGED_FILE', s.id, 'AllEvents', 1000000000,
      lpad(to_hex(n), 8, '0'), 1000, case when n % 10 in (1, 2, 3) then 1 else 0 end,
      case when n % 10 in (1, 2, 3) then 0 else 1 end
    from generate_series(1, ${replicas}) n, sites s where s.name = 'bench';
  insert into file_runs (file_id, run_id) select f.id, r.id from files f join runs r on r.number = 1 + f.id % 20000;
  insert into replicas (file_id, volume_id, path)
    select f.id, v.id, '/data/d1' || f.lfn from files f, volumes v where v.name = 'd1';
  insert into replicas (file_id, volume_id, path)
    select f.id, v.id, '/data/d2' || f.lfn from files f, volumes v where v.name = 'd2' and f.id % 10 = 0;
  insert into backup_records (file_id, store_id, status, attempt, answered_attempt, store_key, stored_size_bytes,
      stored_adler32, evidence, confirmed_at)
    select f.id, m.id, 'CONFIRMED', 1, 1, substr(f.lfn, 2), f.size_bytes, f.adler32,
      '{"asked": "read back", "answer": "{}", "askedAt": "2026-01-01T00:00:00Z"}', now()
    from files f, mass_stores m where m.name = 'tape' and f.confirmed_copies = 1;
  insert into datasets (name, kind, owner, status, closed_at, backup_waived, waiver_reason, file_count, confirmed_count)
    select 'bench-' || n, 'USER', 'owner' || n % 100, 'CLOSED', now(), true, 'bench', ${replicas / datasets}, 0
    from generate_series(0, ${datasets - 1}) n;
  insert into dataset_files (dataset_id, file_id, lfn)
    select d.id, f.id, f.lfn from files f join datasets d on d.name = 'bench-' || split_part(f.lfn, '/', 3);
  ${tables
    .map(
      (table) => `
  alter table ${table} enable trigger all;
  do $$ declare t record; begin
    for t in select tgname from pg_trigger where tgrelid = '${table}'::regclass and not tgisinternal loop
      execute format('alter table ${table} enable always trigger %I', t.tgname);
    end loop; end $$;`,
    )
    .join('\n')}`;

interface Server {
  readonly ask: (query: string, variables?: object) => Promise<Record<string, never>>;
  readonly stop: () => Promise<unknown>;
}

async function startServer(url: string, home: string): Promise<Server> {
  const launcher = fileURLToPath(new URL('../bin/sweepbook', import.meta.url));
  const child = spawn('sh', [launcher, 'serve'], {
    env: {
      ...process.env,
      DATABASE_URL: url,
      SWEEPBOOK_HOME: home,
      SWEEPBOOK_PORT: '0',
      SWEEPBOOK_LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise((resolve) => child.on('close', resolve));
  let said = '';
  const { address, token } = await new Promise<{ address: string; token: string }>(
    (resolve, reject) => {
      child.stderr.on('data', (bytes: Buffer) => {
        said += bytes.toString();
        const found = /Sweepbook is up: (\S+)/.exec(said)?.[1];
        const shown = /Operator token: +(\S+)/.exec(said)?.[1];
        if (found && shown) resolve({ address: found, token: shown });
      });
      void ended.then(() => reject(new Error(said)));
    },
  );
  return {
    async ask(query, variables = {}) {
      const response = await fetch(`${address}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
        body: JSON.stringify({ query, variables }),
      });
      const answer = (await response.json()) as { data: Record<string, never>; errors?: unknown[] };
      if (answer.errors) throw new Error(JSON.stringify(answer.errors));
      return answer.data;
    },
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

/** What others do meanwhile: look at datasets and their files, register new ones on another volume. */
class Others {
  private readonly latencies = new Map<string, number[]>();
  private stopped = false;
  private readonly loops: Promise<void>[];
  private phase = '';
  private count = 0;

  constructor(server: Server, datasets: number) {
    const pick = () => `bench-${Math.floor(Math.random() * datasets)}`;
    const asks: (() => Promise<unknown>)[] = [
      () =>
        server.ask(
          'query ($name: [String!]) { datasets(filter: { name: { in: $name }, isBad: false, status: CLOSED }) { nodes { name fileCount } } }',
          { name: [pick()] },
        ),
      () =>
        server.ask(
          'query ($lfn: String!) { file(lfn: $lfn) { lfn sizeBytes replicas { path } backups { status } datasets { nodes { name } } } }',
          {
            lfn: `/bench/1/file${1 + datasets * Math.floor(Math.random() * 50)}.root`,
          },
        ),
      () =>
        server.ask(
          '{ datasets(filter: { status: CLOSED }, first: 50) { nodes { name owner fileCount } } }',
        ),
      () => {
        const at = ++this.count;
        const files = Array.from({ length: 20 }, (_, n) => ({
          lfn: `/bench/new/${at}/${n}`,
          kind: 'MERGED_FILE',
          sizeBytes: 1,
          adler32: '00000001',
          path: `/data/d3/${at}/${n}`,
          volume: 'd3',
        }));
        return server.ask(
          'mutation ($input: RegisterFilesInput!) { registerFiles(input: $input) { registeredCount } }',
          { input: { files } },
        );
      },
    ];
    this.loops = asks.map(async (ask) => {
      while (!this.stopped) {
        const begun = performance.now();
        const phase = this.phase;
        // A refusal while the server is busy is an answer too; it shows in the time.
        await ask().catch(() => undefined);
        const list = this.latencies.get(phase) ?? [];
        list.push(performance.now() - begun);
        this.latencies.set(phase, list);
        await new Promise((resolve) => setTimeout(resolve, 15));
      }
    });
  }

  enter(phase: string): void {
    this.phase = phase;
  }

  quantile(phase: string, q: number): number {
    const sorted = (this.latencies.get(phase) ?? [Number.NaN]).toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.loops);
  }
}

const fields = `incident { number } changed itemCount safeCount recoverableCount lostCount datasetCount markedDatasetCount
  lostRunCount items { lfn } datasets { name } owners { owner }`;

/** A volume crashes: seconds of preview, report and undo, and what others feel of it. */
export async function incidents(sizes: IncidentSizes): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-bench-incidents-'));
  const postgres = await openEmbeddedPostgres({
    folder: join(folder, 'postgres'),
    log: () => undefined,
  });
  try {
    const url = new URL(postgres.url);
    const admin = new pg.Client({ connectionString: postgres.url });
    await admin.connect();
    await admin.query('create database incidents');
    await admin.end();
    url.pathname = '/incidents';
    await migrate(url.href);
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    await client.query(load(sizes));
    await client.query('vacuum analyze');
    await client.query('checkpoint');
    await client.end();
    const server = await startServer(url.href, join(folder, 'home'));
    try {
      return await measure(server, sizes);
    } finally {
      await server.stop();
    }
  } finally {
    await postgres.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(server: Server, sizes: IncidentSizes): Promise<Report> {
  const phases = ['dry run', 'report', 'undo'] as const;
  const crash = async (timed: Timed) => {
    await timed('dry run', () => report(server, true));
    const made = await timed('report', () => report(server, false));
    await timed('undo', () =>
      server.ask(
        'mutation ($input: EndIncidentInput!) { undoIncident(input: $input) { changed } }',
        { input: { incident: String(made.incident.number), reason: 'bench' } },
      ),
    );
    return made;
  };
  const alone = new Map<string, number>();
  await report(server, true);
  await crash((phase, work) => took(alone, phase, work));

  const others = new Others(server, sizes.datasets);
  const among = new Map<string, number>();
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  others.enter('warm');
  await pause(3000);
  others.enter('calm');
  await pause(sizes.calmSeconds * 1000);
  const { itemCount, markedDatasetCount } = await crash(async (phase, work) => {
    others.enter(phase);
    try {
      return await took(among, phase, work);
    } finally {
      others.enter('after');
    }
  });
  await others.stop();
  const line = (phase: string) => [
    phase,
    alone.get(phase)?.toFixed(1) ?? '–',
    among.get(phase)?.toFixed(1) ?? '–',
    others.quantile(phase, 0.5).toFixed(1),
    others.quantile(phase, 0.99).toFixed(1),
    (others.quantile(phase, 0.99) / others.quantile('calm', 0.99)).toFixed(1),
  ];
  return {
    name: 'incidents',
    title: 'a volume crashes',
    about: [
      `${itemCount} replicas on one volume, ${markedDatasetCount} of ${sizes.datasets} datasets lose a file; 6 of 10 files ` +
        'are lost, 3 have a confirmed backup, 1 another disk copy. First alone; then four others ask without pause: datasets ' +
        'by name, a file with all it has, a page of datasets, and the registration of 20 files.',
    ],
    columns: [
      'phase',
      'seconds alone',
      'seconds among others',
      'others p50, ms',
      'others p99, ms',
      'p99 ÷ calm',
    ],
    rows: ['calm', ...phases].map(line),
  };
}

type Timed = <T>(phase: string, work: () => Promise<T>) => Promise<T>;

async function took<T>(
  seconds: Map<string, number>,
  phase: string,
  work: () => Promise<T>,
): Promise<T> {
  const begun = performance.now();
  const answer = await work();
  seconds.set(phase, (performance.now() - begun) / 1000);
  return answer;
}

interface Reported {
  readonly incident: { readonly number: number };
  readonly itemCount: number;
  readonly markedDatasetCount: number;
}

async function report(server: Server, dryRun: boolean): Promise<Reported> {
  const answer = await server.ask(
    `mutation ($input: ReportStorageLossInput!) { reportStorageLoss(input: $input) { ${fields} } }`,
    { input: { volume: 'd1', site: 'bench', reason: 'head crash', dryRun } },
  );
  return (answer as unknown as { reportStorageLoss: Reported }).reportStorageLoss;
}
