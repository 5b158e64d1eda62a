import { mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeFile, statusOf } from '../support/files.ts';
import { runProgram, startProgram, type Ended } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;
let files: string;
let operatorToken: string;
let userToken: string;

beforeAll(async () => {
  server = await startTestServer();
  files = join(server.folder, 'files');
  mkdirSync(files);
  operatorToken = readFileSync(join(server.folder, 'home', 'operator-token'), 'utf8').trim();
  userToken = await server.tokenOf('ursula', 'USER');
});
afterAll(() => server.close());

/** A command of the operator, in the folder of the files. */
function run(args: string[], environment: Record<string, string> = {}): Promise<Ended> {
  return runProgram(
    args,
    { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: operatorToken, ...environment },
    { cwd: files },
  );
}

/** One line on stderr, no stack trace. */
function expectRefusal(end: Ended, code: number, ...words: (string | RegExp)[]): void {
  expect({ code: end.code, stderr: end.stderr }).toMatchObject({ code });
  expect(end.stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(end.stderr).toMatch(/^sweepbook: /);
  expect(end.stderr).not.toMatch(/\bat .*:\d+:\d+|Error:/);
  for (const word of words) expect(end.stderr).toMatch(word);
}

describe('sweep', () => {
  test('takes files all the way, and prints what the store confirmed of each', async () => {
    const one = await makeFile(join(files, 'one.root'), 'one', 3_000_000);
    const two = await makeFile(join(files, 'two.root'), 'two', 500);
    const end = await run(['sweep', 'one.root', 'two.root', '--dataset', 'two-files']);
    expect(end).toMatchObject({ code: 0, stderr: '' });
    const confirmed = end.stdout.split('\n').filter((line) => line.startsWith('confirmed'));
    expect(confirmed.toSorted()).toEqual(
      [one, two].map(
        (file, at) =>
          `confirmed  /two-files/${at === 0 ? 'one' : 'two'}.root  ${file.sizeBytes} bytes  adler32:${file.adler32}` +
          `  sha256:${file.sha256}  default:two-files/${at === 0 ? 'one' : 'two'}.root`,
      ),
    );
    expect(end.stdout).toContain(
      'two-files is BACKED_UP\ntwo-files is CLOSED: 2 files, 3000500 bytes\n',
    );
    const again = await run(['sweep', 'one.root', 'two.root', '--dataset', 'two-files']);
    expect(again.code).toBe(0);
    expect(again.stdout).toContain('already CLOSED');
  });

  test('a closed dataset takes no other file (6)', async () => {
    await makeFile(join(files, 'three.root'), 'three');
    expectRefusal(await run(['sweep', 'three.root', '--dataset', 'two-files']), 6, 'CLOSED');
  });

  test('other content under a registered name is refused (6)', async () => {
    writeFileSync(join(files, 'three.root'), 'other content');
    const end = await run([
      'sweep',
      'three.root',
      '--dataset',
      'three',
      '--lfn-prefix',
      '/two-files',
    ]);
    expect(end.code).toBe(0);
    writeFileSync(join(files, 'three.root'), 'changed again');
    const other = await run([
      'sweep',
      'three.root',
      '--dataset',
      'four',
      '--lfn-prefix',
      '/two-files',
    ]);
    expectRefusal(other, 6, /adler32/, 'register other content under another LFN');
  });

  test('half of the files cannot be used: the good ones are backed up, nothing is published (3)', async () => {
    await makeFile(join(files, 'good.root'), 'good');
    writeFileSync(join(files, 'empty.root'), '');
    const end = await run([
      'sweep',
      'good.root',
      'empty.root',
      'missing.root',
      '--dataset',
      'half',
    ]);
    expect(end.code).toBe(3);
    expect(end.stderr).toMatch(/missing\.root: no such file/);
    expect(end.stderr).toMatch(/empty\.root/);
    expect(end.stdout).toMatch(/^confirmed {2}\/half\/good\.root/m);
    expect(await statusOf(server.operator, 'half')).toBe('OPEN');
  });

  test.each([
    '-rf.root',
    'with space.root',
    `it's "quoted".root`,
    'Größe-🚀.root',
    'x'.repeat(250),
  ])('a file named %j is no trouble', async (name) => {
    await makeFile(join(files, name), name);
    const dataset = `odd-${Buffer.from(name).toString('hex').slice(0, 12)}`;
    const end = await run(['sweep', '--dataset', dataset, '--', name]);
    expect(end).toMatchObject({ code: 0, stderr: '' });
    expect(end.stdout).toContain(`confirmed  /${dataset}/${name}`);
  });

  test('a line break in a name is refused in one line', async () => {
    await makeFile(join(files, 'two\nlines.root'), 'x');
    const end = await run(['sweep', 'two\nlines.root', '--dataset', 'lines']);
    expectRefusal(end, 2, 'line breaks');
  });

  test('Ctrl-C says that the sweep goes on, and it does (130)', async () => {
    await makeFile(join(files, 'long.root'), 'long', 120_000_000);
    const program = startProgram(
      ['sweep', 'long.root', '--dataset', 'interrupted'],
      { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: operatorToken },
      { cwd: files },
    );
    await until('sealed', async () => {
      const data = await server.operator.call<{ dataset: { sealed: boolean } | null }>(
        '{ dataset(name: "interrupted") { sealed } }',
      );
      return data.dataset?.sealed;
    });
    const end = await program.kill('SIGINT');
    expectRefusal(end, 130, 'interrupted', /dataset watch interrupted/);
    await until(
      'closed',
      async () => (await statusOf(server.operator, 'interrupted')) === 'CLOSED',
    );
  });

  test('--direct copies what no worker can read; killed and run again it goes on', async () => {
    const away = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
    try {
      await makeFile(join(files, 'direct.root'), 'direct', 200_000_000);
      const token = readFileSync(join(away.folder, 'home', 'operator-token'), 'utf8').trim();
      const args = ['sweep', 'direct.root', '--dataset', 'direct', '--direct'];
      const environment = { SWEEPBOOK_URL: away.address, SWEEPBOOK_TOKEN: token };
      const program = startProgram(args, environment, { cwd: files });
      await until(
        'asked for',
        async () => (await away.database.sql('select from backup_records')).length > 0,
      );
      await program.kill('SIGKILL');
      const end = await runProgram(args, environment, { cwd: files });
      expect(end).toMatchObject({ code: 0, stderr: '' });
      expect(end.stdout).toContain('direct is CLOSED: 1 file, 200000000 bytes');
    } finally {
      await away.close();
    }
  });
});

describe('backup', () => {
  test('one file, with confirmation; again it is confirmed already', async () => {
    const made = await makeFile(join(files, 'single.root'), 'single');
    const end = await run(['backup', 'single.root', '--lfn-prefix', '/single']);
    expect(end).toMatchObject({ code: 0, stderr: '' });
    expect(end.stdout).toMatch(
      new RegExp(`^confirmed {2}/single/single.root .*adler32:${made.adler32}`, 'm'),
    );
    expect((await run(['backup', 'single.root', '--lfn-prefix', '/single'])).code).toBe(0);
  });

  test('a file that is gone when the worker comes is a failure with its reason (1)', async () => {
    const away = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
    try {
      await makeFile(join(files, 'gone.root'), 'gone');
      const environment = {
        SWEEPBOOK_URL: away.address,
        SWEEPBOOK_TOKEN: readFileSync(join(away.folder, 'home', 'operator-token'), 'utf8').trim(),
      };
      const program = startProgram(['backup', 'gone.root'], environment, { cwd: files });
      await until(
        'asked for',
        async () => (await away.database.sql('select from backup_records')).length > 0,
      );
      unlinkSync(join(files, 'gone.root'));
      const worker = startProgram(['worker'], {
        DATABASE_URL: away.database.url,
        SWEEPBOOK_HOME: join(away.folder, 'home'),
        SWEEPBOOK_RETRY_BASE_MS: '20',
      });
      const end = await program.ended;
      expect((await worker.kill('SIGTERM')).code).toBe(0);
      expect(end.code).toBe(1);
      expect(end.stderr).toMatch(/gone\.root.*cannot be read/);
      expect(end.stdout).not.toContain('confirmed');
    } finally {
      await away.close();
    }
  });
});

describe('refusals', () => {
  test.each<[string, string[], Record<string, string>, number, RegExp]>([
    ['a wrong option', ['dataset', 'list', '--nonsense'], {}, 2, /nonsense/],
    ['no such command', ['dataset', 'frobnicate'], {}, 2, /frobnicate/],
    ['a missing option', ['sweep', 'one.root'], {}, 2, /--dataset/],
    ['a bad setting', ['config'], { SWEEPBOOK_PORT: 'x' }, 2, /SWEEPBOOK_PORT/],
    ['no such file', ['backup', 'nowhere.root'], {}, 4, /nowhere\.root: no such file/],
    ['no such dataset', ['dataset', 'show', 'nowhere'], {}, 4, /nowhere/],
    [
      'the server is down',
      ['whoami'],
      { SWEEPBOOK_URL: 'http://127.0.0.1:9' },
      5,
      /127\.0\.0\.1:9.*npm start/,
    ],
    ['a wrong token', ['whoami'], { SWEEPBOOK_TOKEN: 'sbk_nonsense' }, 7, /token/],
  ])('%s', async (_what, args, environment, code, words) => {
    expectRefusal(await run(args, environment), code, words);
  });

  test('no right (7)', async () => {
    const end = await run(['dataset', 'create', 'not-mine', '--kind', 'PR'], {
      SWEEPBOOK_TOKEN: userToken,
    });
    expectRefusal(end, 7, /createDataset/, /PRODUCER/);
  });

  test('the close of a dataset that is not backed up (6)', async () => {
    await run(['dataset', 'create', 'unready', '--kind', 'PR']);
    expectRefusal(await run(['dataset', 'close', 'unready']), 6, /mark it backed up first/);
    expectRefusal(await run(['dataset', 'sweep', 'unready']), 6, /no file/);
  });
});

describe('lists', () => {
  test('before the close a job gets nothing, after it the list it reads', async () => {
    await run(['dataset', 'create', 'listed', '--kind', 'SKIM']);
    await run(['dataset', 'add', 'listed', '/two-files/two.root', '/two-files/one.root']);
    const early = await run(['dataset', 'files', 'listed', '--format', 'txt'], {
      SWEEPBOOK_TOKEN: userToken,
    });
    expectRefusal(early, 4, /listed/);
    expect(early.stdout).toBe('');
    expect((await run(['dataset', 'sweep', 'listed'])).code).toBe(0);
    await until('closed', async () => (await statusOf(server.operator, 'listed')) === 'CLOSED');
    const store = join(server.folder, 'home', 'store');
    const txt = await run(['dataset', 'files', 'listed', '--format', 'txt'], {
      SWEEPBOOK_TOKEN: userToken,
    });
    expect(txt).toEqual({
      code: 0,
      stdout: `${store}/two-files/one.root\n${store}/two-files/two.root\n`,
      stderr: '',
    });
    const csv = await run(['dataset', 'files', 'listed', '--format', 'csv'], {
      SWEEPBOOK_TOKEN: userToken,
    });
    expect(csv.stdout.split('\r\n')[0]).toBe('lfn,url,sizeBytes,eventCount,adler32,sha256,runs');
    await run(['dataset', 'files', 'listed', '--format', 'jsonl', '--output', 'list.jsonl']);
    const lines = readFileSync(join(files, 'list.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as object)[0]).toMatchObject({
      lfn: '/two-files/one.root',
    });
  });

  test('--json is JSON on each line, and an empty list is []', async () => {
    for (const args of [
      ['dataset', 'list'],
      ['dataset', 'show', 'two-files'],
      ['dataset', 'history', 'two-files'],
      ['file', 'show', '/two-files/one.root'],
      ['run', 'list'],
      ['store', 'list'],
      ['store', 'check', 'default'],
      ['token', 'list'],
      ['whoami'],
      ['config'],
    ]) {
      const end = await run([...args, '--json']);
      expect(end, args.join(' ')).toMatchObject({ code: 0, stderr: '' });
      const lines = end.stdout.trim().split('\n');
      for (const line of lines)
        expect(() => JSON.parse(line) as unknown, args.join(' ')).not.toThrow();
    }
    expect((await run(['run', 'list', '--json'])).stdout).toBe('[]\n');
  });

  test('a bad dataset says why, and comes back', async () => {
    await run(['dataset', 'mark-bad', 'two-files', '--reason', 'disk 7 crashed']);
    const bad = await run(['dataset', 'show', 'two-files'], { SWEEPBOOK_TOKEN: userToken });
    expectRefusal(bad, 6, /disk 7 crashed/);
    expect((await run(['dataset', 'list'], { SWEEPBOOK_TOKEN: userToken })).stdout).not.toContain(
      'two-files',
    );
    expect((await run(['dataset', 'clear-bad', 'two-files', '--reason', 'restored'])).code).toBe(0);
    expect((await run(['dataset', 'show', 'two-files'], { SWEEPBOOK_TOKEN: userToken })).code).toBe(
      0,
    );
  });

  test('tokens are made, used and revoked', async () => {
    const made = await run(['token', 'create', 'paula', '--role', 'PRODUCER', '--expires', '7d']);
    expect(made.code).toBe(0);
    const token = made.stdout.trim();
    expect((await run(['whoami'], { SWEEPBOOK_TOKEN: token })).stdout).toContain('paula');
    expect((await run(['token', 'revoke', token.split('_')[1] ?? ''])).code).toBe(0);
    expect((await run(['whoami'], { SWEEPBOOK_TOKEN: token })).code).toBe(7);
  });
});
