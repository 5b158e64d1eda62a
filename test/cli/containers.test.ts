import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadDatasets } from '../containers/load.ts';
import { allTold, mutate } from '../support/scene.ts';
import { runProgram, startProgram, type Ended } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

/** Each command is a process of its own, and they start slowly where much else runs. */
const manyProcesses = 300_000;

let server: TestServer;
let token: string;
let names: string[];
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  token = await server.tokenOf('douglas', 'PRODUCER');
  names = await loadDatasets(server.database, {
    prefix: 'R12',
    count: 4,
    events: 9,
    luminosity: 2.5,
  });
});
afterAll(() => server.close());

const environment = () => ({ SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token });
const run = (...args: string[]): Promise<Ended> =>
  runProgram(['container', ...args], environment(), { cwd: server.folder });
async function done(...args: string[]): Promise<string> {
  const end = await run(...args);
  expect(end, args.join(' ')).toMatchObject({ code: 0 });
  return end.stdout;
}
const jsonLines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test(
  'the life of a container at the command line',
  async () => {
    const [a = '', b = '', c = '', d = ''] = names;
    const name = 'AllEvents-R12';
    expect(await done('list')).toMatch(/^NAME +OWNER/);
    expect(await done('list', '--json')).toBe('[]\n');
    expect(await done('create', name, a, b, '--reason', 'run 3', '--description', 'all')).toBe(
      `${name} lists 2 datasets, 2 files, 2.0 kB, 9 events\n`,
    );
    writeFileSync(join(server.folder, 'more.txt'), `${c}\n${d}\n`);
    expect(await done('add', name, '--datasets-from', 'more.txt', '--dry-run')).toContain(
      `2 datasets would be added to ${name} (2 files, 0 events), 0 unchanged: it lists 2 datasets`,
    );
    await allTold(server.database);
    const table = await done('datasets', name, '--marker-file', 'marker');
    expect(table.split('\n').map((line) => line.split(/ +/)[0])).toEqual(['NAME', a, b, '']);
    expect(await done('changes', name, '--marker-file', 'marker')).toMatch(
      /\n0 added, 0 removed; next/,
    );

    expect(
      await done('add', name, a, '--datasets-from', 'more.txt', '--reason', 'late ones'),
    ).toContain(
      `2 datasets added to ${name} (2 files, 0 events), 1 unchanged: it lists 4 datasets`,
    );
    await mutate(server.operator, 'markDatasetBad', { dataset: b, reason: 'tape 7 is torn' });
    await done('remove', name, a, '--reason', 'not wanted');
    await allTold(server.database);

    const history = (await done('history', name)).trimEnd().split('\n');
    expect(
      history.map((line) =>
        line
          .replace(/^\S+Z?/, '')
          .trim()
          .split(/ {2,}/),
      ),
    ).toEqual([
      ['ADDED', 'REMOVED', 'EVENTS', 'LUMINOSITY', 'BY', 'WHY'],
      ['2', '0', '9', '2.5', 'douglas', 'run 3'],
      ['2', '0', '0', '0', 'douglas', 'late ones'],
      ['0', '1', '0', '0', 'operator', 'tape 7 is torn'],
      ['0', '1', '0', '0', 'douglas', 'not wanted'],
    ]);
    const marker = readFileSync(join(server.folder, 'marker'), 'utf8').trim();
    const since = await done('changes', name, '--since', marker, '--json');
    expect(jsonLines(since)).toMatchObject([
      { change: 'ADDED', name: c, addedReason: 'late ones', isAvailable: true },
      { change: 'ADDED', name: d },
      { change: 'REMOVED', name: a, removedReason: 'not wanted', removedKind: 'REMOVED' },
      { change: 'REMOVED', name: b, removedReason: 'tape 7 is torn', removedKind: 'MARKED_BAD' },
      { addedCount: 2, removedCount: 2, unavailableCount: 1, marker: expect.any(String) },
    ]);
    expect(await done('changes', name, '--marker-file', 'marker')).toMatch(
      /2 added, 2 removed, bad now: 1 of what left; next time: --since \S+\n$/,
    );
    expect(await done('changes', name, '--marker-file', 'marker')).toMatch(
      /\n0 added, 0 removed; next/,
    );

    const [line] = jsonLines(await done('history', name, '--json'));
    const then = await run('datasets', name, '--as-of', String(line?.['occurredAt']), '--json');
    expect(jsonLines(then.stdout)).toMatchObject([
      { name: a, isAvailable: true },
      { name: b, isAvailable: false },
    ]);
    expect(then.stderr).toBe('sweepbook: bad now: 1 dataset of that moment\n');
    expect(await done('show', name)).toMatch(/datasets +2, and 1 that are bad now\n/);
    expect(await done('list', '--holds', c, '--name', 'All*')).toContain(name);
  },
  manyProcesses,
);

test(
  'refusals have their exit codes and one line',
  async () => {
    const [a = ''] = names;
    await done('create', 'refusals');
    await server.operator.call(
      'mutation { createDataset(input: { name: "not-closed", kind: PR }) { changed } }',
    );
    for (const [args, code, words] of [
      [['show', 'nothing'], 4, /there is none/],
      [['history', 'nothing'], 4, /there is none/],
      [['changes', 'nothing'], 4, /there is none/],
      [['watch', 'nothing'], 4, /there is none/],
      [['add', 'nothing', a], 4, /no container nothing/],
      [['add', 'refusals', 'no-such'], 4, /no-such/],
      [['add', 'refusals', 'not-closed'], 6, /not-closed is OPEN/],
      [['add', 'refusals'], 2, /name the datasets/],
      [['add', 'refusals', a, '--expect-version', '9'], 6, /version 1, not 9/],
      [['remove', 'refusals', a], 2, /--reason/],
      [['create', 'refusals'], 6, /taken/],
      [['create', 'bad name'], 2, /name "bad name"/],
      [['datasets', 'refusals', '--as-of', 'nonsense'], 2, /marker: not a cursor/],
      [['datasets', 'refusals', '--as-of', '2999-01-01T00:00:00Z'], 2, /future/],
      [
        ['datasets', 'refusals', '--as-of', '2020-01-01T00:00:00Z', '--marker-file', 'm'],
        2,
        /--as-of/,
      ],
      [['changes', 'refusals', '--since', 'x', '--marker-file', 'm'], 2, /not both/],
    ] as const) {
      const end = await run(...args);
      expect([args, end.code, end.stderr]).toEqual([args, code, expect.stringMatching(words)]);
      expect(end.stderr.trimEnd().split('\n')).toHaveLength(1);
    }
    const stranger = await runProgram(['container', 'add', 'refusals', a], {
      ...environment(),
      SWEEPBOOK_TOKEN: await server.tokenOf('ursula', 'USER'),
    });
    expect(stranger.code).toBe(7);
  },
  manyProcesses,
);

test(
  'watch tells each change, and goes on where it was left',
  async () => {
    const [a = '', , b = ''] = names;
    await done('create', 'watched');
    await allTold(server.database);
    const first = startProgram(
      ['container', 'watch', 'watched', '--cursor-file', 'cursor', '--json'],
      environment(),
      { cwd: server.folder },
    );
    // It follows from the moment in which it began.
    await until('it is told', async () => {
      await done('add', 'watched', a);
      await done('remove', 'watched', a, '--reason', 'again');
      return first.stdout().includes('REMOVED');
    });
    const end = await first.kill('SIGINT');
    expect(end.code).toBe(130);
    expect(end.stderr).toContain('continue with: sweepbook container watch watched --after ');
    await done('add', 'watched', b, '--reason', 'meanwhile');
    const second = startProgram(
      ['container', 'watch', 'watched', '--cursor-file', 'cursor'],
      environment(),
      { cwd: server.folder },
    );
    await until('what came meanwhile is told', () => second.stdout().includes('meanwhile'));
    expect(second.stdout()).toMatch(/ADDED \+1 −0: 1 dataset {2}douglas {2}“meanwhile” {2}\S+\n$/);
    await second.kill('SIGTERM');
  },
  manyProcesses,
);
