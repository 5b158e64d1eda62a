import { existsSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { limitSetting, type LimitName } from '../../src/limits.ts';
import type { Refusal } from './client.ts';
import { startTestServer, type TestServer } from './server.ts';
import { openSocket, type TestSocket } from './socket.ts';

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
export const serverWith = (limits: Figures, more: Record<string, string> = {}) =>
  startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_TRUSTED_PROXIES: '127.0.0.1',
    ...Object.fromEntries(
      Object.entries(limits).map(([name, most]) => [limitSetting(name as LimitName), String(most)]),
    ),
    ...more,
  });

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
