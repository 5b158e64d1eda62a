import { text } from 'node:stream/consumers';
import WebSocket from 'ws';
import type { Refusal } from './client.ts';

/** A message of graphql-transport-ws as it came. */
export interface SocketMessage {
  readonly type: string;
  readonly id?: string;
  readonly payload?: unknown;
}

/** How a WebSocket ended; one that never was, by the status and the body of its refusal. */
export interface Closed {
  readonly code: number;
  readonly reason: string;
}

export interface TestSocketOptions {
  /** Said by a proxy. */
  readonly from?: string | undefined;
  /** Says who it is at once. */
  readonly greets?: boolean;
  /** Answers pings. */
  readonly isAlive?: boolean;
}

/**
 * graphql-transport-ws with bare hands: nothing is repeated, and it can be cut off at any moment.
 * Messages wait in `messages` until they are taken.
 */
export class TestSocket {
  readonly webSocket: WebSocket;
  readonly messages: SocketMessage[] = [];
  readonly closed: Promise<Closed>;
  private isClosed = false;
  private wake: () => void = () => undefined;
  private lastId = 0;

  constructor(
    address: string,
    token?: string,
    { from, greets = true, isAlive = true }: TestSocketOptions = {},
  ) {
    this.webSocket = new WebSocket(
      `${address.replace(/^http/, 'ws')}/graphql`,
      'graphql-transport-ws',
      { autoPong: isAlive, headers: from === undefined ? {} : { 'x-forwarded-for': from } },
    );
    this.webSocket.on('error', () => undefined);
    this.webSocket.on('message', (data: Buffer) => {
      this.messages.push(JSON.parse(String(data)) as SocketMessage);
      this.wake();
    });
    this.closed = new Promise((resolve) => {
      const end = (code: number, reason: string) => {
        this.isClosed = true;
        this.wake();
        resolve({ code, reason });
      };
      this.webSocket.on('close', (code, reason) => end(code, String(reason)));
      this.webSocket.on('unexpected-response', (_request, response) => {
        void text(response).then((body) => end(response.statusCode ?? 0, body));
      });
    });
    if (greets) this.webSocket.on('open', () => this.greet(token));
  }

  greet(token?: string): void {
    const payload = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.send({ type: 'connection_init', payload });
  }

  send(message: object): void {
    if (this.webSocket.readyState === WebSocket.OPEN) this.webSocket.send(JSON.stringify(message));
  }

  /** Starts an operation; returns its id. */
  start(query: string, variables: Record<string, unknown> = {}): string {
    const id = String(++this.lastId);
    this.send({ id, type: 'subscribe', payload: { query, variables } });
    return id;
  }

  /** The next message that is no ping; undefined when the connection has ended. */
  async next(): Promise<SocketMessage | undefined> {
    for (;;) {
      const message = this.messages.shift();
      if (message?.type === 'ping') {
        this.send({ type: 'pong' });
      } else if (message) {
        return message;
      } else if (this.isClosed) {
        return undefined;
      } else {
        await new Promise<void>((resolve, reject) => {
          const late = setTimeout(() => reject(new Error('nothing came within 30 s')), 30_000);
          this.wake = () => {
            clearTimeout(late);
            resolve();
          };
        });
      }
    }
  }

  /** The data of the next result; throws its errors as they came. */
  async nextData<Data>(): Promise<Data> {
    const message = await this.next();
    const payload = message?.payload as { data?: Data; errors?: Refusal[] } | Refusal[] | undefined;
    if (message?.type === 'next' && payload && !Array.isArray(payload) && !payload.errors) {
      return payload.data as Data;
    }
    throw new Error(`no data came but ${JSON.stringify(message)}`);
  }

  terminate(): void {
    this.webSocket.terminate();
  }
}

/** The errors of a message: of an operation that was refused, or of one result. */
export function errorsOf(message: SocketMessage | undefined): Refusal[] | undefined {
  if (message?.type === 'error') return message.payload as Refusal[];
  return message?.type === 'next' ? (message.payload as { errors?: Refusal[] }).errors : undefined;
}

/** A connection that has been greeted. */
export async function openSocket(
  address: string,
  token?: string,
  options?: TestSocketOptions,
): Promise<TestSocket> {
  const socket = new TestSocket(address, token, options);
  const message = await socket.next();
  if (message?.type !== 'connection_ack') {
    throw new Error(`not greeted: ${JSON.stringify(message ?? (await socket.closed))}`);
  }
  return socket;
}

/** Runs one query over a WebSocket: what HTTP would have answered. */
export async function overSocket(
  address: string,
  query: string,
  variables: Record<string, unknown> = {},
  token?: string,
): Promise<{ data?: unknown; errors?: Refusal[] }> {
  const socket = await openSocket(address, token);
  try {
    socket.start(query, variables);
    const message = await socket.next();
    if (message?.type === 'error') return { errors: errorsOf(message) ?? [] };
    if (message?.type === 'next') return message.payload as { data?: unknown };
    throw new Error(`closed: ${JSON.stringify(await socket.closed)}`);
  } finally {
    socket.terminate();
  }
}
