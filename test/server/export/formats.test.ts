import { createServer, type Server } from 'node:http';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tclWord } from '../../../src/formats/tcl.ts';
import { floatText, xmlText } from '../../../src/formats/documents.ts';
import { has, runForeign } from '../../support/foreign.ts';
import { startTestServer, type TestServer } from '../../support/server.ts';
import { hostileWorld, type World } from './world.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-lists-'));
let server: TestServer;
let world: World;
let store: string;

beforeAll(async () => {
  server = await startTestServer();
  store = join(server.folder, 'home', 'store');
  world = await hostileWorld(server);
});
afterAll(() => server.close());

async function list(query: string, name = world.name): Promise<string> {
  const response = await server.anonymous.get(`/export/datasets/${name}/files?${query}`);
  const text = await response.text();
  expect(response.status, text.slice(0, 500)).toBe(200);
  return text;
}

const paths = () => world.files.map(({ lfn }) => store + lfn);
const hex = (texts: readonly string[]) => texts.map((text) => Buffer.from(text).toString('hex'));

describe('txt', () => {
  test('one path a line, all of them readable, the count at the end', async () => {
    const lines = (await list('format=txt')).split('\n');
    expect(lines).toEqual([...paths(), `# sweepbook: ${world.files.length} files`, '']);
    for (const path of paths()) expect(existsSync(path)).toBe(true);
  });
});

describe('jsonl', () => {
  test('one object a line', async () => {
    const lines = (await list('format=jsonl')).trimEnd().split('\n');
    const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(objects.pop()).toEqual({ count: world.files.length });
    expect(objects).toEqual(
      world.files.map(({ lfn, description }) => ({
        lfn,
        urls: [store + lfn],
        sizeBytes: description['sizeBytes'],
        events: description['eventCount'],
        checksums: { adler32: description['adler32'], sha256: description['sha256'] },
        runs: (description['runs'] as { number: number }[]).map((run) => run.number),
      })),
    );
  });
});

describe.skipIf(!has('python3'))('as Python reads it', () => {
  const python = async (code: string, stdin: string) => {
    const end = await runForeign('python3', ['-c', code], { stdin, env: { PYTHONUTF8: '1' } });
    expect(end.stderr).toBe('');
    return JSON.parse(end.stdout) as unknown;
  };

  test('csv', async () => {
    const read = `import csv, io, json, sys
rows = list(csv.reader(io.StringIO(sys.stdin.buffer.read().decode(), newline='')))
print(json.dumps([rows[0], [row[1] for row in rows[1:-1]], rows[-1]]))`;
    expect(await python(read, await list('format=csv'))).toEqual([
      ['lfn', 'url', 'sizeBytes', 'eventCount', 'adler32', 'sha256', 'runs'],
      paths(),
      [`# sweepbook: ${world.files.length} files`],
    ]);
  });

  test('metalink: well-formed, each name, size, checksum and URL', async () => {
    const read = `import json, sys, urllib.parse, xml.etree.ElementTree as x
ns = '{urn:ietf:params:xml:ns:metalink}'
root = x.fromstring(sys.stdin.buffer.read())
print(json.dumps([root.tag, [[f.get('name'), f.find(ns + 'size').text,
  {h.get('type'): h.text for h in f.findall(ns + 'hash')},
  urllib.parse.unquote(f.find(ns + 'url').text)] for f in root.findall(ns + 'file')]]))`;
    const inXml = (text: string) => text.replace('\uFFFE', '\uFFFD');
    expect(await python(read, await list('format=metalink'))).toEqual([
      '{urn:ietf:params:xml:ns:metalink}metalink',
      world.files.map(({ lfn, description }) => [
        inXml(lfn.slice(1)),
        String(description['sizeBytes']),
        { adler32: description['adler32'], 'sha-256': description['sha256'] },
        `file://${store}${lfn}`,
      ]),
    ]);
  });
});

describe('tcl', () => {
  test.skipIf(!has('tclsh', '/dev/null'))(
    'tclsh reads every name as it is, and runs nothing',
    async () => {
      const script = join(folder, 'list.tcl');
      writeFileSync(script, await list('format=tcl'));
      for (const locale of ['C', 'C.UTF-8']) {
        const end = await runForeign('tclsh', [], {
          stdin: `source {${script}}
fconfigure stdout -encoding utf-8
foreach name $inputList { binary scan [encoding convertto utf-8 $name] H* bytes; puts $bytes }`,
          env: { LC_ALL: locale },
        });
        expect(end).toMatchObject({ code: 0, stderr: '' });
        expect(end.stdout.trimEnd().split('\n')).toEqual(hex(paths()));
      }
    },
  );

  test('says of each file what scripts look for, and sums it up', async () => {
    const lines = (await list('format=tcl')).trimEnd().split('\n');
    expect(lines[0]).toBe('# hostile');
    const comment =
      /^# (\d+)\/1000 events selected from 1 (on|off)-peak run, added to dataset at \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d, lumi = ~0\.5\/pb$/;
    expect(lines.filter((line) => comment.test(line))).toHaveLength(world.files.length);
    const events = world.files.length * (world.files.length + 1) * 5;
    expect(lines.at(-2)).toBe(
      `# Selected ${world.files.length} collections, ${events}/${events} events, ${(world.files.length / 2).toFixed(1)}/pb`,
    );
    expect(lines.at(-1)).toBe(`# sweepbook: ${world.files.length} files`);
  });

  test('a word for anything', () => {
    expect(tclWord('')).toBe('{}');
    expect(tclWord('a b\n$x')).toBe('a\\u0020b\\u000a\\$x');
  });
});

interface Spec {
  samples: Record<string, { trees: string[]; files: string[]; metadata: Record<string, unknown> }>;
}

describe('rdataframe', () => {
  test('is what RDataFrame FromSpec takes: arrays of trees and files, words and floats', async () => {
    const text = await list('format=rdataframe');
    const spec = JSON.parse(text) as Spec;
    const sample = spec.samples['hostile'];
    expect(Object.keys(spec)).toEqual(['samples']);
    expect(sample).toEqual({ trees: ['Events'], files: paths(), metadata: sample?.metadata });
    // ROOT throws on anything but strings and numbers, and reads what has no point as a 32-bit integer.
    const metadata = /"metadata":(\{[^}]*\})/.exec(text)?.[1] ?? '';
    for (const field of metadata.slice(1, -1).split(',')) {
      expect(field).toMatch(/^"\w+":("[^"]*"|-?\d+\.\d+(e[+-]?\d+)?)$/);
    }
    expect(sample?.metadata).toMatchObject({
      events: world.files.length * (world.files.length + 1) * 5,
      lumi: world.files.length / 2,
      files: world.files.length,
      kind: 'PR',
      status: 'CLOSED',
      stream: 'AllEvents',
    });
  });

  test('floats stay floats', () => {
    expect([0, 12, 1.5, 2 ** 53, 1e21, 1e-7, -3].map(floatText)).toEqual([
      '0.0',
      '12.0',
      '1.5',
      '9007199254740992.0',
      '1e+21',
      '1e-7',
      '-3.0',
    ]);
  });

  test('tree= names another tree', async () => {
    const spec = JSON.parse(await list('format=rdataframe&tree=Other')) as Spec;
    expect(spec.samples['hostile']?.trees).toEqual(['Other']);
  });
});

test('coffea refuses names that its readers refuse, and says which', async () => {
  const response = await server.anonymous.get('/export/datasets/hostile/files?format=coffea');
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    code: 'BAD_USER_INPUT',
    facts: { field: 'format', count: 1, first: ['/hostile/hostile/back\\slash at the end.root\\'] },
  });
});

test('metalink by xmllint and by aria2c, which fetches and checks every file', async () => {
  const text = await list('format=metalink');
  if (has('xmllint')) {
    expect(await runForeign('xmllint', ['--noout', '-'], { stdin: text })).toMatchObject({
      code: 0,
      stderr: '',
    });
  }
  if (!has('aria2c')) return;
  const web: Server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    response.end(readFileSync(path));
  });
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  const target = mkdtempSync(join(folder, 'aria2-'));
  const file = join(target, 'list.meta4');
  const { port } = web.address() as AddressInfo;
  writeFileSync(file, text.replaceAll('file://', `http://127.0.0.1:${port}`));
  const end = await runForeign('aria2c', [
    '--no-conf',
    '--check-integrity=true',
    '--quiet',
    `--dir=${target}`,
    `--metalink-file=${file}`,
  ]);
  web.close();
  web.closeAllConnections();
  expect(end).toMatchObject({ code: 0 });
  const fetched = readdirSync(target, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== 'list.meta4',
  );
  expect(fetched).toHaveLength(world.files.length);
});

test('XML text carries what XML can carry', () => {
  expect(xmlText('a\u0001b<&>"\'\uFFFE\uD800\u{1F600}\n')).toBe(
    'a\uFFFDb&lt;&amp;&gt;&quot;&apos;\uFFFD\uFFFD😀&#10;',
  );
});

test('runs: which runs are in it, as a mask', async () => {
  const mask = JSON.parse(await list('format=runs')) as object;
  expect(mask).toEqual(
    Object.fromEntries(world.files.map((_, i) => [String(100 + i), [[1, 4_294_967_295]]])),
  );
  expect(JSON.parse(await list('format=runs&runs=103-104,119'))).toEqual({
    103: [[1, 4_294_967_295]],
    104: [[1, 4_294_967_295]],
    119: [[1, 4_294_967_295]],
  });
});
