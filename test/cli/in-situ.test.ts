import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { has, runForeign } from '../support/foreign.ts';
import { runProgram } from '../support/program.ts';
import { rootFile } from '../support/root-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-in-situ-'));
const data = join(folder, 'data');
const odd = join(folder, 'odd');
const lists = join(folder, 'lists');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Names that every format must hold, with their events; in the order of lists. */
const names = {
  'a/2 $x; "q" \'s\' {b}.root': 20,
  'a/\\"%41,=.root': 30,
  'b.root': 50,
  'é😀.root': 10,
};
const paths = Object.keys(names).map((name) => join(data, name));

function make(path: string, bytes: Buffer | string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
}

beforeAll(() => {
  for (const [name, entries] of Object.entries(names)) {
    make(join(data, name), rootFile({ name: 'Events', entries }));
  }
  make(join(data, '.hidden.root'), 'x');
  make(join(data, '.git/config'), 'x');
  make(join(data, 'c.root.part'), 'x');
  make(join(folder, 'outside.root'), 'x');
  symlinkSync(join(folder, 'outside.root'), join(data, 'link.root'));
  symlinkSync('..', join(data, 'a/loop'));
  make(join(odd, 'two\nlines.root'), 'x');
  make(join(odd, 'text.root'), 'x');
  make(join(folder, 'bad/empty.root'), '');
  make(join(folder, 'bad/half.root'), rootFile({ name: 'E', entries: 1 }).subarray(0, 900));
  make(join(folder, 'bad/good.root'), rootFile({ name: 'E', entries: 1 }));
  make(join(folder, 'two.root'), rootFile({ name: 'E', entries: 1 }, { name: 'F', entries: 2 }));
  make(join(folder, 'f.root'), rootFile({ name: 'F', entries: 2 }));
  make(join(folder, 'star*.root'), rootFile({ name: 'F', entries: 2 }));
  mkdirSync(lists);
});

/** No server is there, and no token can be read: neither is needed. */
const files = (...args: string[]) =>
  runProgram(
    ['files', '--in-situ', ...args],
    { SWEEPBOOK_URL: 'http://127.0.0.1:1', SWEEPBOOK_TOKEN_FILE: join(folder, 'no-token') },
    { cwd: folder },
  );
const listed = async (...args: string[]) => {
  const end = await files(...args);
  expect(end.code, end.stderr).toBe(0);
  return end.stdout;
};

test('below a folder, each once, in order; what is left out is said', async () => {
  const { stdout, stderr, code } = await files('data', 'data/a', 'data/b.root');
  expect({ code, stdout }).toEqual({ code: 0, stdout: paths.map((path) => `${path}\n`).join('') });
  expect(stderr.split('\n').toSorted()).toEqual([
    '',
    expect.stringContaining('left out, hidden: 2 ('),
    `sweepbook: left out, symbolic links: 2 (${data}/a/loop, ${data}/link.root)`,
    `sweepbook: left out, unfinished: 1 (${data}/c.root.part)`,
  ]);
});

test('what is named itself is taken, whatever it is called', async () => {
  const given = ['data/.hidden.root', 'data/c.root.part', 'data/link.root'];
  const found = ['data/.hidden.root', 'data/c.root.part', 'outside.root'];
  const told = found.map((name) => `${join(folder, name)}\0`).join('');
  expect(await listed(...given, '--print0')).toBe(told);
});

test('jsonl: events by the file itself, checksums, addresses', async () => {
  const prefix = ['--url-prefix', 'https://dav.example.org', '--strip', folder];
  const lines = (await listed('data', '--json', ...prefix)).trimEnd().split('\n');
  const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(objects.pop()).toEqual({ count: paths.length });
  const encoded = (path: string) => path.split('/').map(encodeURIComponent).join('/');
  expect(objects).toEqual(
    Object.entries(names).map(([name, events], at) => {
      const bytes = readFileSync(join(data, name));
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      return {
        lfn: paths[at],
        urls: [`https://dav.example.org/data/${encoded(name)}`],
        sizeBytes: bytes.length,
        events,
        checksums: { adler32: expect.stringMatching(/^[0-9a-f]{8}$/) as string, sha256 },
        runs: [],
      };
    }),
  );
});

test('rdataframe and coffea: the tree is the one in the files', async () => {
  const frame: unknown = JSON.parse(await listed('data', '--format', 'rdataframe'));
  const metadata = { events: 110, files: 4 };
  expect(frame).toEqual({ samples: { data: { trees: ['Events'], files: paths, metadata } } });
  const coffea: unknown = JSON.parse(await listed('data', '--format', 'coffea', '--name', 'mine'));
  const what = Object.fromEntries(paths.map((path) => [path, { object_path: 'Events' }]));
  expect(coffea).toEqual({ mine: { files: what, metadata } });
});

test.skipIf(!has('python3') || !has('tclsh'))(
  'csv, metalink and tcl as others read them',
  async () => {
    const csv = `import csv, io, json, sys
rows = list(csv.reader(io.StringIO(sys.stdin.buffer.read().decode(), newline='')))
print(json.dumps([row[1] for row in rows[1:-1]]))`;
    const xml = `import json, sys, urllib.parse, xml.etree.ElementTree as x
found = x.fromstring(sys.stdin.buffer.read()).iter('{urn:ietf:params:xml:ns:metalink}url')
print(json.dumps([urllib.parse.unquote(urllib.parse.urlparse(url.text).path) for url in found]))`;
    const tcl = `source list.tcl; fconfigure stdout -encoding utf-8; foreach f $inputList { puts $f }`;
    const read = async (code: string, stdin: string) =>
      JSON.parse(
        (await runForeign('python3', ['-c', code], { stdin, env: { PYTHONUTF8: '1' } })).stdout,
      ) as unknown;
    expect(await read(csv, await listed('data', '--format', 'csv', '--no-checksums'))).toEqual(
      paths,
    );
    expect(await read(xml, await listed('data', '--format', 'metalink'))).toEqual(paths);
    await listed('data', '--format', 'tcl', '--output', join(lists, 'list.tcl'));
    const script = tcl.replace('list.tcl', join(lists, 'list.tcl'));
    const end = await runForeign('tclsh', [], { stdin: script, env: { LC_ALL: 'C.UTF-8' } });
    expect(end.stdout.trimEnd().split('\n')).toEqual(paths);
  },
);

test('chunks: files of their own, each whole, no file cut', async () => {
  const split = ['--split', '60', '--format', 'rdataframe', '--output', 'lists/job.json'];
  expect(await listed('data', ...split)).toContain('wrote lists/job-1.json to lists/job-2.json');
  const chunks = ['job-1.json', 'job-2.json'].map((name) => {
    const list = JSON.parse(readFileSync(join(lists, name), 'utf8')) as {
      samples: { data: { files: string[]; metadata: { events: number } } };
    };
    return list.samples.data;
  });
  expect(chunks.flatMap((chunk) => chunk.files)).toEqual(paths);
  expect(chunks.map((chunk) => chunk.metadata.events)).toEqual([50, 60]);
  const second = await listed('data', '--split', '60', '--chunk', '2');
  expect(second).toBe(`${paths.slice(2).join('\n')}\n`);
  // Of an earlier, longer list a job would read on.
  const larger = await files('data', ...split.with(1, '1000'));
  expect(larger).toMatchObject({ code: 1, stdout: '' });
  expect(larger.stderr).toContain('lists/job-2.json of an earlier list is in the way');
  expect(readdirSync(lists).filter((name) => name.includes('.part'))).toEqual([]);
});

test('a command counts what says nothing itself', async () => {
  const command = `"${process.execPath}" -p "'41'" -- {file}`;
  const text = await listed('odd', '--events-command', command, '--format', 'tcl');
  expect(text).toContain('# Selected 2 collections, 82/82 events');
});

test.each([
  [['bad', '--json'], 1, /^sweepbook: \S+empty\.root: is empty\n.*--skip-bad/],
  [['odd'], 1, /two\\nlines\.root: its name has a line break: take --print0/],
  [['odd', '--split', '5', '--chunk', '1', '--print0'], 2, /not known of 2 of 2 files, no ROOT fi/],
  [['star*.root', '--format', 'rdataframe'], 1, /wildcards/],
  [['two.root', '--format', 'coffea'], 2, /2 trees are in it, say which one .*: E, F/],
  [['f.root', 'data', '--format', 'rdataframe'], 2, /is Events, that of \S+f\.root F: name one/],
  [['absent'], 4, /absent: no such file/],
  [['data', '--format', 'runs'], 2, /do not say of which runs/],
  [['data', '--url-prefix', 'x y'], 2, /--url-prefix x y: must be like/],
])('%j is refused with %i', async (args, code, message) => {
  const end = await files(...args);
  expect(end).toMatchObject({ code, stdout: '' });
  expect(end.stderr).toMatch(new RegExp(message.source, 's'));
});

test('--skip-bad lists the others, and says by its exit code that it did', async () => {
  const end = await files('bad', '--format', 'csv', '--skip-bad');
  expect(end.code).toBe(3);
  expect(end.stderr).toMatch(/empty\.root: is empty\n.*half\.root: is no whole ROOT file/);
  expect(end.stdout.split('\r\n').slice(1)).toEqual([
    expect.stringContaining(`${folder}/bad/good.root,`),
    '# sweepbook: 1 files',
    '',
  ]);
});
