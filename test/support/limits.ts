import { existsSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { limitSetting, type LimitName } from '../../src/limits.ts';
import { limitsOfRequests } from '../../src/limits-of-requests.ts';
import type { Refusal } from './client.ts';
import { startTestServer, type TestServer } from './server.ts';
import { openSocket, type TestSocket } from './socket.ts';

const {
  'One document (HTTP and WebSocket alike, before it is checked against the schema)': ofDocuments,
  'One operation (before any SQL)': ofOperations,
} = limitsOfRequests;
/** Those that a document can be beyond. */
export type ShapedLimit =
  | keyof typeof ofDocuments
  | Exclude<keyof typeof ofOperations, 'schemaMilliseconds'>;

export type Figures = Partial<Record<LimitName, number>>;

/** Where a limit is shown by another test: its file, and its title or a part of it. */
export type ShownBy = readonly [file: string, title: string];

/** A limit, shown at its figure and beyond it. */
export type Entry = (() => Promise<void>) | ShownBy;

/** Runs an entry, or looks whether the test that it names is there. */
export async function show(name: string, entry: Entry | undefined): Promise<void> {
  if (entry === undefined) throw new Error(`${name} has no entry: nothing shows that it holds`);
  if (typeof entry === 'function') {
    await entry();
    return;
  }
  const [file, title] = entry;
  expect(existsSync(file), file).toBe(true);
  expect(readFileSync(file, 'utf8'), file).toContain(title);
}

/** A server with these limits, behind a proxy that says from where each comes. */
export const serverWith = (
  limits: Figures,
  more: Record<string, string> = {},
  through?: (databaseUrl: string) => string,
) => {
  const figures = Object.entries(limits).map(([name, most]) => [
    limitSetting(name as LimitName),
    String(most),
  ]);
  const settings = { SWEEPBOOK_WORKER: 'false', SWEEPBOOK_TRUSTED_PROXIES: '127.0.0.1' };
  return startTestServer({ ...settings, ...Object.fromEntries(figures), ...more }, through);
};

/** Who asks. */
export interface Asker {
  readonly token?: string | undefined;
  /** His address; one of his own, or that of all who say none. */
  readonly from?: string | undefined;
}

/** What came back; code `data` = it was answered. */
export interface Told {
  readonly status: number;
  readonly code: string;
  readonly facts: Record<string, unknown>;
  readonly retryAfter: string | null;
}

export interface Asked extends Asker {
  readonly query: string;
  readonly operationName?: string | undefined;
}

const toldOf = (errors: readonly Refusal[] | undefined) => ({
  code: errors?.[0]?.extensions.code ?? 'data',
  facts: errors?.[0]?.extensions.facts ?? {},
});

export const headersOf = ({ token, from }: Asker): Record<string, string> => ({
  ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  ...(from === undefined ? {} : { 'x-forwarded-for': from }),
});

/** Asks by POST; `bytes`: how long the body is. */
export async function overHttp(
  { address }: TestServer,
  { query, operationName, ...asker }: Asked,
  bytes = 0,
): Promise<Told> {
  const response = await fetch(`${address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headersOf(asker) },
    body: JSON.stringify({ query, operationName }).padEnd(bytes),
  });
  const { errors } = (await response.json()) as { errors?: Refusal[] };
  const retryAfter = response.headers.get('retry-after');
  return { status: response.status, retryAfter, ...toldOf(errors) };
}

/** Asks on a WebSocket that is open; its status is that of no HTTP. */
export async function onSocket(socket: TestSocket, { query, operationName }: Asked): Promise<Told> {
  socket.send({ id: 'asked', type: 'subscribe', payload: { query, operationName } });
  const message = await socket.next();
  const answered = (message?.payload as { errors?: Refusal[] } | undefined)?.errors;
  const errors = message?.type === 'error' ? (message.payload as Refusal[]) : answered;
  if (message?.type === 'next') await socket.next();
  return { status: 0, retryAfter: null, ...toldOf(errors) };
}

export async function overWebSocket(server: TestServer, asked: Asked): Promise<Told> {
  const socket = await openSocket(server.address, asked.token, { from: asked.from });
  const told = await onSocket(socket, asked);
  socket.terminate();
  return told;
}

/** The facts that name a limit. */
export const factsOf = (limit: LimitName, most: number) => ({
  limit,
  most,
  setting: limitSetting(limit),
});

/** A refusal as docs/limits.md has it: HTTP 429, with when to come again. */
export const rateLimitedBy = (limit: LimitName, most: number) => ({
  status: 429,
  code: 'RATE_LIMITED',
  facts: { ...factsOf(limit, most), retryAfterSeconds: expect.any(Number) as number },
  retryAfter: expect.stringMatching(/^[1-9]\d*$/) as string,
});

/** A connection, on which bytes are sent by hand. */
export function rawConnection({ address }: TestServer, localAddress = '127.0.0.1'): Socket {
  const { port } = new URL(address);
  const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress });
  return socket.on('error', () => undefined).setNoDelay();
}

/** Sends the head of a request, and nothing of its body; returns how to send that: what came back. */
export function halfRequest(
  server: TestServer,
  asker: Asker,
  bytes: number,
): () => Promise<string> {
  const socket = rawConnection(server);
  const headers = { ...headersOf(asker), 'content-type': 'application/json' };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(
    `POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines.join('')}Content-Length: ${bytes}\r\n\r\n`,
  );
  return () => {
    socket.write('{"query":"{ __typename }"}'.padEnd(bytes));
    return text(socket);
  };
}

/** What everybody may ask. */
export const small = '{ __typename }';
export const times = (count: number, part: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => part(at)).join(' ');
/** So many fields of a viewer, as few of them the same as there can be. */
const fields = (count: number) =>
  times(count, (at) => ['name', 'roles', 'principal'][at % 3] ?? '');
const fragments = (count: number) =>
  `${times(count, (at) => `fragment f${at} on Viewer { name }`)} { viewer { ${times(count, (at) => `...f${at}`)} } }`;
const deep = (levels: number) =>
  `{ files(first: 1) { nodes { ${'mergedInto { '.repeat(levels - 3)}lfn${' }'.repeat(levels - 1)} }`;

/** What has so much of something, by how much. */
export interface Shape {
  readonly most: number;
  readonly query: (count: number) => string;
  readonly operationName?: string;
}

export const shapes: Record<ShapedLimit, Shape> = {
  documentCharacters: { most: 1024, query: (count) => `${small} #`.padEnd(count, 'x') },
  tokens: { most: 100, query: (count) => `{ viewer { ${fields(count - 5)} } }` },
  nesting: {
    most: 16,
    query: (count) => `${'{ ... '.repeat(count - 1)}${small}${' }'.repeat(count - 1)}`,
  },
  depth: { most: 4, query: deep },
  aliases: { most: 3, query: (count) => `{ ${times(count, (at) => `a${at}: __typename`)} }` },
  directives: {
    most: 3,
    query: (count) => `{ ${times(count, () => '__typename @include(if: true)')} }`,
  },
  rootFields: { most: 5, query: (count) => `{ ${times(count, () => '__typename')} }` },
  // Of 55 there are 1,485, of 56 1,540.
  samePlacePairs: {
    most: 1500,
    query: (count) => `{ viewer { ${times(count > 1500 ? 56 : 55, () => 'name')} } }`,
  },
  fragments: { most: 3, query: fragments },
  fragmentSpreads: {
    most: 5,
    query: (count) => `fragment f on Viewer { name } { viewer { ${times(count, () => '...f')} } }`,
  },
  introspections: {
    most: 2,
    query: (count) => `{ ${times(count, (at) => `a${at}: __schema { __typename }`)} }`,
  },
  documentOperations: {
    most: 3,
    query: (count) => times(count, (at) => `query q${at} ${small}`),
    operationName: 'q1',
  },
  // A fragment of 23 is looked through in three places: 72 and those beside.
  queryNodes: {
    most: 97,
    query: (count) =>
      `fragment f on Viewer { ${fields(22)} } { ${times(3, (at) => `a${at}: viewer { ...f }`)} viewer { ${fields(count - 92)} } }`,
  },
  complexity: {
    most: 301,
    query: (count) =>
      `{ datasets(first: 100) { nodes { name kind } } ${count > 301 ? small.slice(1, -1) : ''} }`,
  },
  pageSize: { most: 100, query: (count) => `{ datasets(first: ${count}) { totalCount } }` },
};
