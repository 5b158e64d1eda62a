import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';

/** What a program had PostgreSQL run. */
export interface Statement {
  /** The application_name of its connection. */
  readonly application: string;
  readonly text: string;
}

/** Stands between a program and PostgreSQL, and reads along what it has it run. */
export interface Watch {
  /** The way there, to the database of this address. */
  through(databaseUrl: string): string;
  /** What was run since it was asked last. */
  taken(): Statement[];
  close(): void;
}

export async function watchStatements(): Promise<Watch> {
  let target: URL | undefined;
  let seen: Statement[] = [];
  const server = createServer((near) => {
    const far = connect(Number(target?.port), target?.hostname);
    const reader = new Frontend((statement) => seen.push(statement));
    near.on('data', (data: Buffer) => reader.read(data));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    through(databaseUrl) {
      target = new URL(databaseUrl);
      const url = new URL(databaseUrl);
      url.hostname = '127.0.0.1';
      url.port = String((server.address() as AddressInfo).port);
      return url.href;
    },
    taken() {
      const taken = seen;
      seen = [];
      return taken;
    },
    close: () => void server.close(),
  };
}

/** The messages of one connection to PostgreSQL (its documentation, Message Formats), those that run something. */
class Frontend {
  private rest = Buffer.alloc(0);
  private application: string | undefined;
  private readonly prepared = new Map<string, string>();

  constructor(private readonly onStatement: (statement: Statement) => void) {}

  read(data: Buffer): void {
    this.rest = Buffer.concat([this.rest, data]);
    for (;;) {
      // The first message has no type, and tells of whom the connection is.
      const typeBytes = this.application === undefined ? 0 : 1;
      if (this.rest.length < typeBytes + 4) return;
      const length = typeBytes + this.rest.readInt32BE(typeBytes);
      if (this.rest.length < length) return;
      const type = String.fromCharCode(this.rest[0] ?? 0);
      const body = this.rest.subarray(typeBytes + 4, length).toString('latin1');
      this.rest = this.rest.subarray(length);
      if (typeBytes === 0) this.application = /application_name\0([^\0]*)/.exec(body)?.[1] ?? '';
      else this.take(type, body.split('\0'));
    }
  }

  private take(type: string, [first = '', second = '']: string[]): void {
    const { application = '' } = this;
    if (type === 'Q') this.onStatement({ application, text: first });
    if (type === 'P') this.prepared.set(first, second);
    // What is bound is run; its portal comes first, then what was prepared.
    if (type === 'B') this.onStatement({ application, text: this.prepared.get(second) ?? '' });
  }
}
