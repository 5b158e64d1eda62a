import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { createServer as createTcpServer } from 'node:net';

/** Answers the first requests itself, as an overloaded front does, then lets all through to the server. */
export interface Front {
  readonly address: string;
  /** Requests that came, in order: what was answered to each. */
  readonly log: string[];
  close(): Promise<void>;
}

/** What the front does with one request: refuses it, lets it through, cuts its answer after so many bytes or just before its end. */
export type Step =
  | { readonly status: number; readonly retryAfter?: string; readonly body?: string }
  | 'pass'
  | { readonly cutAfter: number }
  | 'no end'
  | 'hang up';

/** A front before a server that does these steps, one for each connection, and then lets all through. */
export async function startFront(server: string, steps: readonly Step[]): Promise<Front> {
  const target = new URL(server);
  const log: string[] = [];
  const left = [...steps];
  const open = new Set<{ destroy(): void }>();
  const front = createTcpServer((client) => {
    const step = left.shift() ?? 'pass';
    log.push(typeof step === 'string' ? step : 'status' in step ? String(step.status) : 'cut');
    open.add(client);
    client.on('error', () => undefined);
    if (step === 'hang up') return void client.destroy();
    if (typeof step === 'object' && 'status' in step) {
      client.once('data', () => {
        const body = step.body ?? '';
        const retry = step.retryAfter === undefined ? '' : `Retry-After: ${step.retryAfter}\r\n`;
        client.end(
          `HTTP/1.1 ${step.status} No\r\n${retry}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
        );
      });
      return;
    }
    const upstream = connect(Number(target.port), target.hostname);
    open.add(upstream);
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.end());
    client.pipe(upstream);
    if (step === 'pass') return void upstream.pipe(client);
    if (step === 'no end') {
      let all = Buffer.alloc(0);
      upstream.on('data', (data: Buffer) => {
        all = Buffer.concat([all, data]);
        const end = all.indexOf('\r\n0\r\n');
        if (end === -1) return;
        client.write(all.subarray(0, end));
        setImmediate(() => client.destroy());
      });
      return;
    }
    let bytes = 0;
    upstream.on('data', (data: Buffer) => {
      const part = data.subarray(0, Math.max(0, step.cutAfter - bytes));
      bytes += data.length;
      client.write(part);
      if (bytes >= step.cutAfter) setImmediate(() => client.destroy());
    });
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  const { port } = front.address() as AddressInfo;
  return {
    address: `http://127.0.0.1:${port}`,
    log,
    close: () =>
      new Promise<void>((resolve) => {
        for (const socket of open) socket.destroy();
        front.close(() => resolve());
      }),
  };
}

/** A web server that is none of ours. */
export async function startStranger(
  body: string,
): Promise<{ address: string; close(): Promise<void> }> {
  const web: Server = createServer((_request, response) => response.end(body));
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(web.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        web.closeAllConnections();
        web.close(() => resolve());
      }),
  };
}
