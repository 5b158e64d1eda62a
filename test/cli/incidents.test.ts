import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { placedFile, waivedDataset, type Placed } from '../incidents/scene.ts';
import { backUp, mutate } from '../support/scene.ts';
import { runProgram, type Ended } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

/** Each command is a process of its own, and they start slowly where much else runs. */
const manyProcesses = 300_000;

let server: TestServer;
let disk: string;
let operatorToken: string;
let lost: Placed;
let kept: Placed;
beforeAll(async () => {
  disk = mkdtempSync(join(tmpdir(), 'sweepbook-disk-'));
  server = await startTestServer({ SWEEPBOOK_RESTAGE_ROOTS: disk });
  const { operator } = server;
  operatorToken = await server.tokenOf('olga', 'OPERATOR');
  lost = await placedFile(server, 'd7', 'cli/lost');
  kept = await placedFile(server, 'd7', 'cli/kept', { path: join(disk, 'kept') });
  await backUp(operator, kept);
  await waivedDataset(operator, 'calib', [lost, kept], { owner: 'anna' });
  await waivedDataset(operator, 'kept', [kept]);
  await mutate(operator, 'createContainer', { name: 'All', datasets: ['calib', 'kept'] });
  rmSync(lost.path);
});
afterAll(async () => {
  await server.close();
  rmSync(disk, { recursive: true, force: true });
});

const run = (args: readonly string[], token: string | undefined = operatorToken): Promise<Ended> =>
  runProgram(
    ['incident', ...args],
    { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token },
    { cwd: server.folder },
  );
async function done(...args: string[]): Promise<string> {
  const end = await run(args);
  expect(end, args.join(' ')).toMatchObject({ code: 0 });
  return end.stdout;
}
/** Lines of a text as their words, tables as their cells. */
const cells = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => line.trim().split(/ {2,}/));

test(
  'an incident at the command line, from the first look to its end',
  async () => {
    const scope = ['--volume', 'd7', '--reason', 'head crash'];
    const looked = await done('report', ...scope);
    expect(looked).toContain('2 copies hit: 0 safe, 1 recoverable, 1 lost (1 file, 64 B)\n');
    expect(looked).toContain('2 datasets hit, 1 marked bad, of 2 owners, in 1 container\n');
    expect(cells(looked).slice(4, 18)).toEqual([
      ['FOUND', 'FILE', 'SIZE', 'PLACE', 'PATH'],
      ['LOST', lost.lfn, '64 B', 'd7', lost.path],
      ['RECOVERABLE', kept.lfn, '64 B', 'd7', join(disk, 'kept')],
      [''],
      ['DATASET', 'OWNER', 'STATUS', 'FILES', 'HIT', 'LOST', 'NO BACKUP', 'BAD'],
      ['calib', 'anna', 'CLOSED', '2', '2', '1', '0', 'yes'],
      ['kept', 'operator', 'CLOSED', '1', '1', '0', '0', 'no'],
      [''],
      ['CONTAINER', 'OWNER', 'DATASETS HIT', 'BAD', 'LOST FILES'],
      ['All', 'operator', '2', '1', '1'],
      [''],
      ['OWNER', 'DATASETS HIT', 'BAD', 'LOST FILES'],
      ['anna', '1', '1', '1'],
      ['operator', '1', '0', '0'],
    ]);
    expect(looked).toContain('\nnothing was changed: with --yes it is reported\n');
    expect(await done('report', ...scope, '--dry-run')).toBe(looked);
    expect(await done('list')).toMatch(/^INCIDENT +STATUS/);
    expect(await done('list', '--json')).toBe('[]\n');

    const reported = await done('report', ...scope, '--yes');
    const number = /incident (\d+) is OPEN: "sweepbook incident recover \1" brings back/.exec(
      reported,
    )?.[1];
    if (!number) throw new Error(reported);
    // The same table, but for its last line.
    const body = (text: string) => text.trimEnd().split('\n').slice(0, -1);
    expect(body(reported)).toEqual(body(looked));
    const again = await done('report', ...scope, '--yes');
    expect(again).toContain(`nothing was changed: incident ${number} tells of it already`);
    const json = JSON.parse(await done('list', '--json')) as Record<string, unknown>;
    expect(json).toMatchObject({ status: 'OPEN', scope: 'volume d7', itemCount: 2, lostCount: 1 });
    const [table, none, shown, items, datasets, found] = await Promise.all([
      done('list', '--status', 'open', '--volume', 'd7'),
      done('list', '--status', 'closed'),
      done('show', number),
      done('show', number, '--items', '--lost'),
      done('show', number, '--datasets', '--json'),
      done('show', number, '--table'),
    ]);
    expect(cells(table)[1]?.slice(0, 2)).toEqual([number, 'OPEN']);
    expect(cells(none)).toHaveLength(1);
    expect(shown).toMatch(/reason +head crash\n/);
    expect(shown).toMatch(/now +0 restored, 2 not back, 1 lost\n/);
    expect(cells(items).slice(1)).toEqual([
      ['LOST', 'LOST', lost.lfn, '64 B', 'd7', lost.path, '-'],
    ]);
    expect(
      datasets
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as object),
    ).toMatchObject([
      { name: 'calib', lostCount: 1, isMarked: true },
      { name: 'kept', lostCount: 0, isMarked: false },
    ]);
    expect(found.trimEnd()).toBe(looked.split('\n').slice(4, -2).join('\n').trimEnd());

    // What cannot be brought back is said by exit 3, and why by the list.
    const partly = await run(['recover', number, '--wait']);
    expect(partly).toMatchObject({ code: 3 });
    expect(partly.stdout).toContain(
      `incident ${number} is OPEN: 1 copies restored, 1 not back, 1 lost, 1 datasets bad\n`,
    );
    expect(await done('show', number, '--items')).toMatch(/LOST +\/incident.* is not there/);
    const waiting = await run(['watch', number]);
    expect(waiting.code).toBe(3);
    mkdirSync(join(server.folder, 'd7', 'cli'), { recursive: true });
    writeFileSync(lost.path, lost.bytes);
    expect(await done('recover', number, '--wait')).toContain(
      `incident ${number} is CLOSED: 2 copies restored, 0 not back, 0 lost, 0 datasets bad\n`,
    );
    expect((await run(['watch', number])).code).toBe(0);
    expect(await done('recover', number)).toContain(`incident ${number} is already CLOSED`);
    expect(await run(['undo', number, '--reason', 'late'])).toMatchObject({ code: 6 });
  },
  manyProcesses,
);

test(
  'undo and resolve',
  async () => {
    const { operator } = server;
    const a = await placedFile(server, 'd8', 'cli/undo');
    await waivedDataset(operator, 'cli-undo', [a]);
    const report = async (): Promise<string> => {
      const text = await done('report', '--path', a.path, '--reason', 'wrong', '--yes', '--json');
      return String((JSON.parse(text) as { incident: { number: number } }).incident.number);
    };
    const first = await report();
    expect(await done('undo', first, '--reason', 'it was d9')).toBe(
      `incident ${first} is UNDONE: 0 copies not back, 0 lost, 0 datasets bad\n`,
    );
    const second = await report();
    expect(second).not.toBe(first);
    const resolved = JSON.parse(await done('resolve', second, '--reason', 'gone', '--json')) as {
      status: string;
    };
    expect(resolved).toMatchObject({ status: 'CLOSED', changed: true, hiddenDatasetCount: 1 });
    expect(await done('list', '--status', 'closed', '--dataset', 'cli-undo')).toContain('wrong');
  },
  manyProcesses,
);

test(
  'what is wrong is said with its exit code, and nothing is done',
  async () => {
    const reason = ['--reason', 'x'];
    const before = await server.database.sql('select count(*) as n from events');
    const wanted: [code: number, says: string | RegExp, args: string[]][] = [
      [4, 'volume nonsense is not known here', ['report', '--volume', 'nonsense', ...reason]],
      [4, 'massStore nonsense', ['report', '--store', 'nonsense', ...reason, '--yes']],
      [4, '', ['report', '--lfn', '/no/such', ...reason, '--yes']],
      [2, 'say what was lost in one way', ['report', ...reason]],
      [2, 'one way', ['report', '--volume', 'd7', '--lfn', '/a', ...reason, '--yes']],
      [2, '--reason', ['report', '--volume', 'd7']],
      [2, 'reason', ['report', '--volume', 'd7', '--reason', ' ', '--yes']],
      [2, 'reason', ['report', '--volume', 'd7', '--reason', 'x'.repeat(3000), '--yes']],
      [2, 'one of the two', ['report', '--volume', 'd7', ...reason, '--yes', '--dry-run']],
      [2, '', ['report', '--volume', 'd7', ...reason, '--since', 'yesterday']],
      [2, 'absolute', ['report', '--site', 'local', '--path-prefix', 'd7', ...reason]],
      [2, 'status', ['list', '--status', 'burning']],
      [4, 'there is none that you see', ['show', '4711']],
      [4, 'there is none that you see', ['show', '4711', '--items']],
      [4, 'there is none that you see', ['show', '4711', '--table']],
      [4, '', ['watch', '4711']],
      [2, 'incident', ['show', "1'; drop table incidents; --"]],
      [2, 'incident', ['undo', '99999999999999999999', ...reason]],
      [2, 'pathTo', ['recover', '1', '--from', '/a']],
      [2, 'absolute', ['recover', '1', '--from', '/a', '--to', '/b/../c']],
    ];
    const ends: Ended[] = [];
    for (let at = 0; at < wanted.length; at += 4) {
      const some = wanted.slice(at, at + 4);
      ends.push(...(await Promise.all(some.map(([, , args]) => run(args)))));
    }
    for (const [at, [code, says, args]] of wanted.entries()) {
      expect({ code: ends[at]?.code, args }).toEqual({ code, args });
      expect(ends[at]?.stderr, args.join(' ')).toMatch(says);
    }
    const user = await server.tokenOf('carl', 'USER');
    const scope = ['report', '--volume', 'd7', ...reason];
    expect((await run(scope, user)).code).toBe(7);
    expect((await run(scope, '')).code).toBe(7);
    expect(await server.database.sql('select count(*) as n from events')).toEqual(before);
  },
  manyProcesses,
);

test(
  'names and reasons cannot play with the terminal',
  async () => {
    const hostile = 'x\u001b[2J\r\u202eevil\nINCIDENT 9 is CLOSED';
    const file = await placedFile(server, 'd9', 'cli/hostile');
    // As an older program may have told it.
    await server.database.sql(
      `insert into replicas (file_id, volume_id, path) select file_id, volume_id, E'/d9/a\u001b]0;owned\u0007'
        from replicas where path = $1`,
      [file.path],
    );
    await waivedDataset(server.operator, 'hostile-incident', [file]);
    const scope = ['report', '--volume', 'd9', '--reason', hostile];
    const texts = [await done(...scope), await done(...scope, '--yes')];
    const list = await done('list', '--json', '--limit', '1');
    const last = JSON.parse(list) as { number: number; reason: string };
    expect(last.reason).toBe(hostile);
    const number = String(last.number);
    texts.push(
      ...(await Promise.all([
        done('list'),
        done('show', number),
        done('show', number, '--items'),
        done('show', number, '--table'),
      ])),
    );
    for (const text of texts) {
      // eslint-disable-next-line no-control-regex
      expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
      expect(text).not.toMatch(/^INCIDENT 9 is CLOSED/m);
    }
    expect(texts[4]).toContain('\\x1b]0;owned\\x07');
  },
  manyProcesses,
);

test(
  'a lost store: backups are hit, not disks',
  async () => {
    const { operator, folder } = server;
    const file = await placedFile(server, 'd10', 'cli/tape');
    await backUp(operator, file);
    rmSync(join(folder, 'home', 'store', file.lfn));
    const scope = ['--store', 'default', '--lfn', file.lfn];
    const text = await done('report', ...scope, '--reason', 'torn', '--yes');
    expect(text).toContain('1 copy hit: 0 safe, 1 recoverable, 0 lost');
    const number = /incident (\d+) is OPEN/.exec(text)?.[1] ?? '';
    await until('it is asked for again, and back', async () =>
      (await done('show', number)).includes('CLOSED'),
    );
    const undone = await run(['undo', number, '--reason', 'no']);
    expect(undone).toMatchObject({ code: 6 });
    expect(undone.stderr).toContain('not believed without asking it');
  },
  manyProcesses,
);
