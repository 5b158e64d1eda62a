/**
 * Floods of one kind on a server of this host, as a program of its own: what the attacker does costs neither the server
 * that is measured nor the client that is. `node flood.ts ADDRESS KIND COUNT [TOKEN]` prints what came back.
 */
import { once } from 'node:events';
import { Agent, request, type ClientRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { getIntrospectionQuery } from 'graphql';
import WebSocket from 'ws';

/** Another address of the loopback, where there is one: attackers are not the clients that are measured. */
const localAddress = process.platform === 'linux' ? '127.0.0.2' : '127.0.0.1';

const times = (count: number, part: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => part(at)).join(' ');

/** Documents that are to be refused before they cost anything. */
export const documents: Readonly<Record<string, string>> = {
  'nested-10000': `${'{ a '.repeat(10_000)}${'}'.repeat(10_000)}`,
  'nested-lists': `{ a(x: ${'['.repeat(2000)}${']'.repeat(2000)}) }`,
  'aliases-1000': `{ ${times(1000, (at) => `a${at}: __typename`)} }`,
  'fields-10000': `{ viewer { ${'name '.repeat(10_000)} } }`,
  'repeated-2000': `{ viewer { ${'name '.repeat(2000)} } }`,
  'fragments-1000': `{ ...f0 } ${times(1000, (at) => `fragment f${at} on Query { ...f${at + 1} }`)}`,
  'circle-of-fragments':
    'fragment a on Viewer { ...b } fragment b on Viewer { ...a } { viewer { ...a } }',
  'doubling-fragments': `${times(40, (at) => `fragment f${at} on Viewer { ${at === 0 ? 'name' : `...f${at - 1} x: __typename ...f${at - 1}`} }`)} { viewer { ...f39 } }`,
  'fragments-alike': `${times(98, (at) => `fragment f${at} on Query { datasets { nodes { id name kind status owner } } }`)} { ${times(98, (at) => `...f${at}`)} }`,
  'schema-aliases': `{ __schema { types { ${times(10, (a) => `a${a}: fields { type { ${times(15, (b) => `b${b}: fields { name }`)} } }`)} } } }`,
  'schema-50': `{ ${times(50, (at) => `a${at}: __schema { types { name fields { name } } }`)} }`,
};

export type Outcomes = Record<string, number>;

interface Flood {
  readonly address: URL;
  readonly count: number;
  readonly token: string | undefined;
  note(outcome: string): void;
}

type Kind = (flood: Flood) => Promise<void>;

const post = (
  { address, token }: Flood,
  headers: Record<string, string>,
  agent: Agent,
): ClientRequest =>
  request(new URL('/graphql', address), {
    method: 'POST',
    agent,
    localAddress,
    headers: {
      'content-type': 'application/json',
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...headers,
    },
  });

/** Status and code of an answer. */
async function outcomeOf(asked: ClientRequest): Promise<string> {
  try {
    const [response] = (await once(asked, 'response')) as [import('node:http').IncomingMessage];
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += part;
    return `${response.statusCode} ${/"code":"([A-Z_]+)"/.exec(text)?.[1] ?? 'data'}`;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** So many at once, until all have been. */
async function together(
  count: number,
  atOnce: number,
  work: (at: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(atOnce, count) }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

const bombsOverHttp =
  (query: string): Kind =>
  async (flood) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    const body = JSON.stringify({ query });
    await together(flood.count, 8, async () => {
      const asked = post(flood, { 'content-length': String(Buffer.byteLength(body)) }, agent);
      asked.end(body);
      flood.note(await outcomeOf(asked));
    });
    agent.destroy();
  };

const openSocket = ({ address }: Flood) =>
  new WebSocket(`${address.href.replace('http', 'ws')}graphql`, 'graphql-transport-ws', {
    localAddress,
  });

/** How a WebSocket that did not stay ended: its close code, or the status of its refusal. */
const endOf = (socket: WebSocket): Promise<string> =>
  new Promise((resolve) => {
    socket.on('close', (code) => resolve(String(code)));
    socket.on('unexpected-response', (_request, response) => {
      response.resume();
      resolve(`HTTP ${response.statusCode}`);
    });
    socket.on('error', () => undefined);
  });

const bombsOverWebSocket =
  (query: string): Kind =>
  async (flood) => {
    const socket = openSocket(flood).setMaxListeners(0);
    const ended = endOf(socket);
    await Promise.race([once(socket, 'open'), ended]);
    if (socket.readyState !== WebSocket.OPEN) {
      flood.note(await ended);
      return;
    }
    socket.send('{"type":"connection_init"}');
    await Promise.race([once(socket, 'message'), ended]);
    for (let at = 0; at < flood.count; at++) {
      socket.send(JSON.stringify({ id: String(at), type: 'subscribe', payload: { query } }));
      const message = await Promise.race([once(socket, 'message'), ended]);
      flood.note(/"code":"([A-Z_]+)"/.exec(String(message))?.[1] ?? String(message).slice(0, 40));
    }
    socket.terminate();
  };

/** A body that never ends, in chunks: 1 GB, if it is taken. */
const endlessBodies: Kind = (flood) =>
  together(flood.count, 4, async () => {
    const agent = new Agent();
    const asked = post(flood, {}, agent);
    let sent = 0;
    let isOver = false;
    const outcome = outcomeOf(asked).finally(() => (isOver = true));
    asked.on('error', () => undefined);
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    while (!isOver && sent < 1024) {
      sent++;
      if (!asked.write(chunk))
        await Promise.race([once(asked, 'drain').catch(() => undefined), outcome]);
    }
    flood.note(`${await outcome}${sent >= 1024 ? ', all of it taken' : ''}`);
    asked.destroy();
  });

/** Frames of 64 MiB, each on a WebSocket of its own. */
const giantFrames: Kind = async (flood) => {
  const frame = Buffer.alloc(64 * 1024 * 1024);
  await together(flood.count, 2, async () => {
    const socket = openSocket(flood);
    const ended = endOf(socket);
    socket.on('open', () => socket.send('{"type":"connection_init"}'));
    await Promise.race([once(socket, 'message'), ended]);
    if (socket.readyState === WebSocket.OPEN) socket.send(frame, { mask: true });
    flood.note(await ended);
    socket.terminate();
  });
};

/** WebSockets that never say who they are. */
const silentSockets: Kind = (flood) =>
  together(flood.count, flood.count, async (at) => {
    await pause(at / 2);
    flood.note(await endOf(openSocket(flood)));
  });

const connected = ({ address }: Flood): Socket =>
  connect({ host: address.hostname, port: Number(address.port), localAddress });

/** What a raw connection was told before it was closed. */
function toldOn(socket: Socket): Promise<string> {
  let told = '';
  socket.on('data', (data: Buffer) => (told += data.toString('latin1').slice(0, 500)));
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(told.slice(9, 12) || 'closed'));
  });
}

/** Requests whose header comes byte by byte. */
const loris: Kind = (flood) =>
  together(flood.count, flood.count, async (at) => {
    await pause(at / 2);
    const socket = connected(flood);
    const told = toldOn(socket);
    socket.write('POST /graphql HTTP/1.1\r\nHost: x\r\n');
    const drip = setInterval(() => socket.write('X: y\r\n'), 500);
    flood.note(await told);
    clearInterval(drip);
  });

/** Who asks for much, again and again, and takes nothing of it; until it is cut off. */
const deafReaders: Kind = (flood) =>
  together(flood.count, flood.count, async (at) => {
    await pause(at * 5);
    const socket = connected(flood);
    const gone = new Promise((resolve) => socket.on('close', resolve).on('error', resolve));
    const body = JSON.stringify({ query: getIntrospectionQuery() });
    const asked = `POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    socket.write(asked.repeat(20));
    socket.pause();
    // A reader that takes nothing does not see the end either: a write tells.
    const prod = setInterval(() => socket.write(asked), 500);
    await Promise.race([gone, pause(2000)]);
    clearInterval(prod);
    flood.note(socket.destroyed ? 'cut off' : 'stays');
    socket.destroy();
  });

/** All of the schema, each time in words of its own: no answer is like one before. */
const curious: Kind = async (flood) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  await together(flood.count, 8, async (at) => {
    const query = getIntrospectionQuery().replace('queryType', `a${at}: queryType`);
    const body = JSON.stringify({ query });
    const asked = post(flood, { 'content-length': String(Buffer.byteLength(body)) }, agent);
    asked.end(body);
    flood.note(await outcomeOf(asked));
  });
  agent.destroy();
};

/** The largest answers that may be, all at once, by the road that takes longest: few clients accept in these words. */
const greedy: Kind = async (flood) => {
  const agent = new Agent({ keepAlive: true });
  const query = `{ files(first: 1000) { nodes { ${times(55, (at) => `a${at}: lfn`)} } } }`;
  const body = JSON.stringify({ query });
  const headers = {
    accept: 'application/json;q=0.9',
    'content-length': String(Buffer.byteLength(body)),
  };
  await together(flood.count, flood.count, async () => {
    const asked = post(flood, headers, agent);
    asked.end(body);
    flood.note(await outcomeOf(asked));
  });
  agent.destroy();
};

/** Many small questions, as fast as they go. */
const hammer: Kind = async (flood) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  const body = '{"query":"{ datasets(first: 1) { nodes { name } } }"}';
  await together(flood.count, 32, async () => {
    const asked = post(flood, { 'content-length': String(body.length) }, agent);
    asked.end(body);
    flood.note(await outcomeOf(asked));
  });
  agent.destroy();
};

/** Tokens that nobody has. */
const wrongTokens: Kind = async (flood) => {
  const token = () =>
    `sbk_${Math.floor(Math.random() * 2 ** 48)
      .toString(16)
      .padStart(12, '0')}_${'A'.repeat(43)}`;
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  await together(flood.count, 16, async () => {
    const asked = post({ ...flood, token: token() }, { 'content-length': '2' }, agent);
    asked.end('{}');
    flood.note(await outcomeOf(asked));
  });
  agent.destroy();
};

/** All documents, one kind after the other; what came back with the name of each. */
const each =
  (road: (query: string) => Kind): Kind =>
  async (flood) => {
    for (const [name, query] of Object.entries(documents)) {
      const note = (outcome: string) => flood.note(`${name}: ${outcome}`);
      await road(query)({ ...flood, note });
    }
  };

export const kinds: Readonly<Record<string, Kind>> = {
  ...Object.fromEntries(
    Object.entries(documents).flatMap(([name, query]) => [
      [`http:${name}`, bombsOverHttp(query)],
      [`ws:${name}`, bombsOverWebSocket(query)],
    ]),
  ),
  'http:each': each(bombsOverHttp),
  'ws:each': each(bombsOverWebSocket),
  'endless-bodies': endlessBodies,
  'giant-frames': giantFrames,
  'silent-sockets': silentSockets,
  loris,
  'deaf-readers': deafReaders,
  curious,
  greedy,
  hammer,
  'wrong-tokens': wrongTokens,
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , address = '', kind = '', count = '1', token] = process.argv;
  const outcomes: Outcomes = {};
  const note = (outcome: string) => void (outcomes[outcome] = (outcomes[outcome] ?? 0) + 1);
  await kinds[kind]?.({ address: new URL(address), count: Number(count), token, note });
  process.stdout.write(JSON.stringify(outcomes));
}
