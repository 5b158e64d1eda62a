import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startFront } from '../clients/proxy.ts';
import { hostileWorld, type World } from '../server/export/world.ts';
import { has, runForeign } from '../support/foreign.ts';
import { runProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let world: World;
let folder: string;
let store: string;

beforeAll(async () => {
  server = await startTestServer();
  folder = join(server.folder, 'lists');
  mkdirSync(folder);
  store = join(server.folder, 'home', 'store');
  world = await hostileWorld(server);
});
afterAll(() => server.close());

const files = (args: string[], url = server.address) =>
  runProgram(
    ['dataset', 'files', 'hostile', ...args],
    { SWEEPBOOK_URL: url, SWEEPBOOK_HOME: join(server.folder, 'nobody') },
    { cwd: folder },
  );
const paths = () => world.files.map(({ lfn }) => store + lfn);
const events = () => world.files.map(({ description }) => Number(description['eventCount']));

test('a shell reads every name as it is: a line each, or ended by NUL', async () => {
  const lines = (await files([])).stdout;
  const zeros = (await files(['--print0'])).stdout;
  const show = ['sh', '-c', 'for name; do test -f "$name" && printf "%s|" "$name"; done', 'sh'];
  const told = `${paths().join('|')}|`;
  expect(await runForeign('xargs', ['-d', '\\n', ...show], { stdin: lines })).toEqual({
    code: 0,
    stdout: told,
    stderr: '',
  });
  expect(await runForeign('xargs', ['-0', ...show], { stdin: zeros })).toEqual({
    code: 0,
    stdout: told,
    stderr: '',
  });
});

test('every format goes into a file, whole, and nothing else is left', async () => {
  for (const format of ['txt', 'jsonl', 'csv', 'tcl', 'rdataframe', 'metalink', 'runs']) {
    const end = await files(['--format', format, '--output', `whole.${format}`]);
    expect(end, format).toMatchObject({ code: 0, stderr: '' });
    expect(end.stdout).toContain(`wrote whole.${format}`);
    const response = await server.anonymous.get(`/export/datasets/hostile/files?format=${format}`);
    const served = await response.text();
    const kept = format === 'txt' ? served.replace(/^# .*\n/gm, '') : served;
    expect(readFileSync(join(folder, `whole.${format}`), 'utf8'), format).toBe(kept);
  }
  expect(readdirSync(folder).filter((name) => name.includes('.part'))).toEqual([]);
});

test('tells what BaBar scripts look for', async () => {
  const { stdout } = await files(['--format', 'tcl', '--output', 'summary.tcl']);
  const total = events().reduce((sum, n) => sum + n, 0);
  expect(stdout).toBe(
    `wrote summary.tcl (${total} events)\nSelected ${world.files.length} collections, ${total}/${total} events, 11.0/pb\n`,
  );
});

describe('--split', () => {
  /** The same rule, written once more. */
  const chunks = (most: number) => {
    const found: number[][] = [];
    let sum = 0;
    for (const [at, n] of events().entries()) {
      if (found.length === 0 || sum + n > most) {
        found.push([]);
        sum = 0;
      }
      found.at(-1)?.push(at);
      sum += n;
    }
    return found;
  };

  test.each(['txt', 'jsonl', 'csv', 'tcl'])(
    '%s: NAME-1, NAME-2 …, each a list of its own',
    async (format) => {
      const end = await files([
        '--format',
        format,
        '--split',
        '300',
        '--output',
        `split.${format}`,
      ]);
      expect(end).toMatchObject({ code: 0, stderr: '' });
      const expected = chunks(300);
      const names = readdirSync(folder).filter((name) =>
        new RegExp(`^split-\\d+\\.${format}$`).test(name),
      );
      expect(names).toHaveLength(expected.length);
      for (const [at, members] of expected.entries()) {
        const text = readFileSync(join(folder, `split-${at + 1}.${format}`), 'utf8');
        const lines = text
          .trimEnd()
          .split(/\r?\n/)
          .filter((line) => format !== 'tcl' || line.startsWith('lappend'));
        expect(lines.length - (format === 'csv' ? 1 : 0)).toBe(members.length);
        if (format === 'txt') expect(lines).toEqual(members.map((n) => paths()[n]));
        if (format === 'jsonl') {
          expect(lines.map((line) => (JSON.parse(line) as { lfn: string }).lfn)).toEqual(
            members.map((n) => world.files[n]?.lfn),
          );
        }
      }
    },
  );

  test.skipIf(!has('tclsh', '/dev/null'))('tclsh sources each', async () => {
    let read = 0;
    for (const [at, members] of chunks(300).entries()) {
      const end = await runForeign('tclsh', [], {
        stdin: `source {${join(folder, `split-${at + 1}.tcl`)}}\nputs [llength $inputList]`,
      });
      expect(end).toEqual({ code: 0, stdout: `${members.length}\n`, stderr: '' });
      read += members.length;
    }
    expect(read).toBe(world.files.length);
  });

  test('leaves nothing when a chunk of an earlier list is in the way', async () => {
    const next = chunks(300).length + 1;
    writeFileSync(join(folder, `stale-${next}.txt`), 'old');
    const end = await files(['--split', '300', '--output', 'stale.txt']);
    expect(end.code).toBe(1);
    expect(end.stderr).toContain(`stale-${next}.txt of an earlier list is in the way`);
    expect(readdirSync(folder).filter((name) => name.startsWith('stale'))).toEqual([
      `stale-${next}.txt`,
    ]);
  });

  test('is refused where it makes no sense (2)', async () => {
    for (const args of [
      ['--format', 'metalink', '--split', '10'],
      ['--split', '10'],
      ['--print0', '--format', 'csv'],
      ['--chunk', '1'],
    ]) {
      expect(await files(args), args.join(' ')).toMatchObject({ code: 2, stdout: '' });
    }
    expect((await files(['--split', '300', '--chunk', '99'])).code).toBe(4);
  });
});

test('a list that is cut off is no list (5), and leaves no file', async () => {
  for (const format of ['txt', 'rdataframe', 'metalink']) {
    const front = await startFront(server.address, ['no end']);
    const end = await files(['--format', format, '--output', `cut.${format}`], front.address);
    await front.close();
    expect(end.code, format).toBe(5);
    expect(end.stderr).toContain('the list of hostile was cut off');
    expect(readdirSync(folder).filter((name) => name.startsWith('cut'))).toEqual([]);
  }
});

test('filters reach the server', async () => {
  const first = world.files.find(
    ({ description }) => (description['runs'] as { number: number }[])[0]?.number === 103,
  );
  expect((await files(['--runs', '103'])).stdout).toBe(`${store}${first?.lfn}\n`);
  expect((await files(['--good'])).stdout).toBe('');
  expect((await files(['--since', new Date().toISOString()])).stdout).toBe('');
  expect((await files(['--as-of', '2020-01-01T00:00:00Z'])).stdout).toBe('');
  expect((await files(['--tree', 'Other', '--format', 'rdataframe'])).stdout).toContain(
    '"trees":["Other"]',
  );
});
