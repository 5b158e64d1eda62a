import { ended, file, head, run } from '../imports/manifest-text.ts';

/** A place of a request that is no GraphQL, and the request with this text in it. */
export interface Road {
  readonly name: string;
  request(text: string): Buffer;
  /** Where a text can tell of a body that never comes: so long the server's answer is waited for. */
  readonly patienceMs?: number;
}

const unending = new Set(['content-length', 'transfer-encoding', 'expect', 'upgrade']);
const utf8 = (text: string) => Buffer.from(text);
/** As it may stand in an address: what has no UTF-8 goes as the bytes of its halves. */
const encoded = (text: string) =>
  text.isWellFormed()
    ? encodeURIComponent(text)
    : [...Buffer.from(text, 'utf16le')]
        .map((byte) => `%${byte.toString(16).padStart(2, '0')}`)
        .join('');

/** Every header that the server, or what it is made of, reads. */
const headers: Record<string, { line: string; more?: Record<string, string> }> = {
  accept: { line: 'POST /graphql' },
  'accept-encoding': { line: 'GET /export/datasets/closed/files' },
  authorization: { line: 'POST /graphql' },
  'content-encoding': { line: 'POST /graphql' },
  'content-length': { line: 'POST /graphql' },
  'content-type': { line: 'POST /graphql' },
  cookie: { line: 'POST /graphql' },
  expect: { line: 'POST /graphql' },
  forwarded: { line: 'POST /graphql' },
  host: { line: 'POST /graphql' },
  'if-none-match': { line: 'GET /export/datasets/closed/files' },
  origin: { line: 'GET /graphql', more: upgrade() },
  range: { line: 'GET /export/datasets/closed/files' },
  'sec-websocket-key': { line: 'GET /graphql', more: upgrade() },
  'sec-websocket-protocol': { line: 'GET /graphql', more: upgrade() },
  'sec-websocket-version': { line: 'GET /graphql', more: upgrade() },
  te: { line: 'POST /graphql' },
  traceparent: { line: 'POST /graphql' },
  'transfer-encoding': { line: 'POST /graphql' },
  upgrade: { line: 'GET /graphql', more: { connection: 'upgrade' } },
  'user-agent': { line: 'POST /graphql' },
  'x-forwarded-for': { line: 'POST /graphql' },
  'x-forwarded-host': { line: 'POST /graphql' },
  'x-http-method-override': { line: 'POST /graphql' },
  'x-request-id': { line: 'POST /graphql' },
};

function upgrade(): Record<string, string> {
  return {
    connection: 'upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'sec-websocket-protocol': 'graphql-transport-ws',
  };
}

const exports = [
  'format',
  'split',
  'chunk',
  'tree',
  'protocol',
  'runs',
  'goodRuns',
  'since',
  'asOf',
  'other',
];
const imports = ['dryRun', 'name', 'store', 'from', 'dataset', 'other'];
const paths: Record<string, (text: string) => string> = {
  'path as it is': (text) => `/${text}`,
  'path of an export': (text) => `/export/datasets/${encoded(text)}/files`,
  'path of a container': (text) => `/export/containers/${encoded(text)}/files`,
  'path of a manifest': (text) => `/export/datasets/${encoded(text)}/manifest`,
  'path of GraphiQL': (text) => `/graphiql/${encoded(text)}`,
  'path of GraphiQL as it is': (text) => `/graphiql/${text}`,
  'name of a parameter': (text) => `/export/datasets/closed/files?${encoded(text)}=1`,
  'query of a GET': (text) => `/graphql?query=${encoded(text)}`,
  'variables of a GET': (text) =>
    `/graphql?query=%7Bviewer%7Bname%7D%7D&variables=${encoded(text)}`,
  ...Object.fromEntries(
    exports.map((name) => [
      `export ${name}`,
      (text: string) => `/export/datasets/closed/files?${name}=${encoded(text)}`,
    ]),
  ),
};

const question = JSON.stringify({ query: '{ viewer { name } }' });

/** A whole request; the text stands where it is said, as bytes. */
function requestOf(line: string, given: Record<string, string>, body = '', token = ''): Buffer {
  const all: Record<string, string> = {
    host: 'localhost',
    connection: 'close',
    ...(body === ''
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
    ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
    ...given,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return utf8(`${line} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${body}`);
}

/** Header by header, address by address, field by field of a manifest. */
export function roadsOf(token: string): Road[] {
  const header = ([name, { line, more }]: [string, (typeof headers)[string]]): Road => ({
    name: `header ${name}`,
    ...(unending.has(name) ? { patienceMs: 300 } : {}),
    request: (text) =>
      requestOf(line, { ...more, [name]: text }, line.startsWith('POST') ? question : ''),
  });
  return [
    ...Object.entries(headers).map(header),
    {
      name: 'header authorization, Bearer',
      request: (text) => requestOf('POST /graphql', { authorization: `Bearer ${text}` }, question),
    },
    {
      name: 'name of a header',
      request: (text) => requestOf('POST /graphql', { [text]: 'x' }, question),
    },
    { name: 'body', request: (text) => requestOf('POST /graphql', {}, text || ' ', token) },
    { name: 'method', request: (text) => requestOf(`${text} /graphql`, {}) },
    ...Object.entries(paths).map(([name, path]) => ({
      name,
      request: (text: string) => requestOf(`GET ${path(text)}`, {}, '', token),
    })),
    ...imports.map((name) => ({
      name: `import ${name}`,
      request: (text: string) =>
        requestOf(`POST /imports?${name}=${encoded(text)}`, {}, manifest('/a/1'), token),
    })),
    ...manifestFields().map((field) => ({
      name: `manifest ${field.name}`,
      request: (text: string) =>
        requestOf('POST /imports?dryRun=true', {}, field.manifest(text), token),
    })),
  ];
}

const manifest = (lfn: string) => ended([head(1), run(1), file(lfn)]);

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A place in a line for every text of a manifest, those that are null in the example, too. */
function manifestFields(): { name: string; manifest: (text: string) => string }[] {
  const lines = [
    head(1, {}, { origins: [{ site: 'A', dataset: 'd', exportedAt: '2026-01-01T00:00:00.000Z' }] }),
    run(1),
    file('/a/1', { parents: { count: 1, first: ['/b'] } }),
  ] as unknown as Json[];
  const places = lines.flatMap((line, at) => [...textsOf(line)].map((path) => ({ at, path })));
  return [
    ...places.map(({ at, path }) => ({
      name: path.join('.'),
      manifest: (text: string) =>
        ended(lines.map((line, i) => (i === at ? withText(line, path, text) : line)) as object[]),
    })),
    ...(['sha256', 'signature'] as const).map((name) => ({
      name: `end.${name}`,
      manifest: (text: string) =>
        ended(lines as object[], {
          [name]: name === 'sha256' ? text : { algorithm: 'ed25519', keyId: text, value: text },
        }),
    })),
    {
      name: 'name of a field',
      manifest: (text: string) =>
        ended([...(lines.slice(0, 2) as object[]), { file: { [text]: text } }]),
    },
  ];
}

function* textsOf(value: Json, path: readonly string[] = []): Generator<string[]> {
  if (value === null || typeof value === 'string') yield [...path];
  else if (typeof value === 'object') {
    for (const [name, inner] of Object.entries(value)) yield* textsOf(inner, [...path, name]);
  }
}

function withText(value: Json, [next, ...rest]: readonly string[], text: string): Json {
  if (next === undefined) return text;
  if (Array.isArray(value))
    return value.map((item, i) => (String(i) === next ? withText(item, rest, text) : item));
  const object = value as { [name: string]: Json };
  return { ...object, [next]: withText(object[next] ?? null, rest, text) };
}
