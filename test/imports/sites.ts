import { createReadStream, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TestClient } from '../support/client.ts';
import { backUp, mutate, newFile, register, type TestFile } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

/** What a door does with one request instead of answering it; true = it has. */
export type Trick = (
  request: IncomingMessage,
  response: ServerResponse,
) => boolean | Promise<boolean>;

/** A door to the files of a site: HTTP with ranges, as a storage system has it. */
export interface Door {
  readonly address: string;
  /** Range header (or "all") of each request, in order. */
  readonly log: string[];
  /** Asked first. */
  trick: Trick | undefined;
  close(): Promise<void>;
}

export async function openDoor(folder: string): Promise<Door> {
  const door: { trick: Trick | undefined; log: string[] } = { trick: undefined, log: [] };
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    door.log.push(request.headers.range ?? 'all');
    if (await door.trick?.(request, response)) return;
    const path = join(folder, decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname));
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) return void response.writeHead(404).end();
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(start > 0 ? 206 : 200, {
      'content-length': size - start,
      ...(start > 0 ? { 'content-range': `bytes ${start}-${size - 1}/${size}` } : {}),
    });
    createReadStream(path, { start }).pipe(response);
  };
  const server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(door, {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  });
}

/** The way to a server, which can be shut: then all that goes through it is lost. */
export interface Gate {
  readonly address: string;
  isShut: boolean;
  close(): void;
}

export async function openGate(to: string): Promise<Gate> {
  const target = new URL(to);
  const open = new Set<Socket>();
  const server = createTcpServer((client) => {
    client.on('error', () => undefined);
    if (gate.isShut) return void client.destroy();
    const upstream = connect(Number(target.port), target.hostname);
    upstream.on('error', () => client.destroy());
    for (const socket of [client, upstream]) open.add(socket);
    client.pipe(upstream).pipe(client);
  });
  const gate = {
    address: '',
    shut: false,
    get isShut() {
      return gate.shut;
    },
    set isShut(shut: boolean) {
      gate.shut = shut;
      if (shut) for (const socket of open) socket.destroy();
    },
    close: () => {
      gate.isShut = true;
      server.close();
    },
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  gate.address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return gate;
}

/** The import file of a site, written into a folder; its path. */
export function writeImportFile(
  folder: string,
  source: Record<string, unknown> & { read: string[] },
  site = 'SLAC',
): string {
  const path = join(folder, 'imports.yaml');
  mkdirSync(folder, { recursive: true });
  // JSON is YAML.
  const file = { area: join(folder, 'area'), volume: 'imports', sources: [{ site, ...source }] };
  writeFileSync(path, JSON.stringify(file));
  return path;
}

/** A site that makes datasets; its mass store is read through a door. */
export async function startProducer(
  door: { address: string },
  storeRoot: string,
  settings: Record<string, string> = {},
): Promise<TestServer> {
  return startTestServer({
    SWEEPBOOK_SITE: 'SLAC',
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_STORE_ROOT: storeRoot,
    SWEEPBOOK_STORE_URL_PREFIX: `${door.address}/`,
    ...settings,
  });
}

/** A closed dataset of two runs, with real bytes in its mass store. */
export async function closedDataset(
  client: TestClient,
  name: string,
  { fileCount = 2, firstRun = 100 } = {},
): Promise<TestFile[]> {
  const numbers = [firstRun, firstRun + 1];
  await mutate(
    client,
    'registerRuns',
    {
      runs: numbers.map((number) => ({
        number,
        startedAt: '2026-01-01T00:00:00Z',
        endedAt: '2026-01-01T01:00:00Z',
        eventCount: 1000,
        luminosity: 1.5,
        conditions: 'ON_PEAK',
      })),
    },
    'registeredCount',
  );
  const files = await Promise.all(
    Array.from({ length: fileCount }, (_, at) =>
      newFile(`/${name}/file${at}.root`, {
        stream: 'AllEvents',
        release: 'r1',
        eventCount: 20,
        runs: numbers.map((number) => ({ number, source: 'DATA', eventCount: 10 })),
      }),
    ),
  );
  await register(client, ...files);
  await backUp(client, ...files);
  const dataset = { name, kind: 'PR', stream: 'AllEvents', release: 'r1', treeName: 'Events' };
  await mutate(client, 'createDataset', { ...dataset, files: files.map((file) => file.lfn) });
  await mutate(client, 'markDatasetBackedUp', { dataset: name });
  await mutate(client, 'closeDataset', { dataset: name });
  return files;
}

export async function manifestOf(server: TestServer, name: string): Promise<string> {
  const response = await server.operator.get(`/export/datasets/${name}/manifest`);
  return response.text();
}

export interface Received {
  outcome: string;
  changed: boolean;
  import: number | null;
  files: { newCount: number; hereCount: number; conflictCount: number };
  runs: { newCount: number; hereCount: number; filledCount: number; conflictCount: number };
  conflicts: { line: number; code: string; what: string }[];
  code?: string;
  message?: string;
  facts?: Record<string, unknown>;
}

/** Sends a manifest to a server. */
export async function sendManifest(
  address: string,
  token: string,
  manifest: string | Buffer,
  query = '',
): Promise<Received & { status: number }> {
  const response = await fetch(`${address}/imports${query}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/x-ndjson' },
    body: manifest as never,
  });
  return { status: response.status, ...((await response.json()) as Received) };
}

export interface Imported {
  number: number;
  status: string;
  lastErrorCode: string | null;
  lastError: string | null;
  progress: {
    safe: number;
    failed: number;
    waiting: number;
    fetching: number;
    fetchedBytes: number;
  };
  files: {
    nodes: {
      lfn: string;
      status: string;
      lastErrorCode: string | null;
      lastError: string | null;
      attempts: number;
    }[];
  };
}

export async function importOf(client: TestClient, number: number): Promise<Imported> {
  const data = await client.call<{ import: Imported }>(
    `query ($id: ID!) { import(id: $id) { number status lastErrorCode lastError
      progress { safe failed waiting fetching fetchedBytes }
      files(first: 100) { nodes { lfn status lastErrorCode lastError attempts } } } }`,
    { id: String(number) },
  );
  return data.import;
}

export async function untilImport(
  client: TestClient,
  number: number,
  ...statuses: string[]
): Promise<Imported> {
  return until(
    `import ${number} is ${statuses.join(' or ')}`,
    async () => {
      const found = await importOf(client, number);
      return statuses.includes(found.status) && found;
    },
    60_000,
  );
}
