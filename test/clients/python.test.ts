import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { has, runForeign, type ForeignEnd } from '../support/foreign.ts';
import { allTold, makeDataset, mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { hostileWorld, type World } from '../server/export/world.ts';
import { startFront, startStranger, type Step } from './proxy.ts';

const client = fileURLToPath(new URL('../../clients/python/sweepbook.py', import.meta.url));
const isThere = has('python3');

describe.skipIf(!isThere)('the Python client', () => {
  let server: TestServer;
  let world: World;
  let store: string;
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-python-'));

  beforeAll(async () => {
    server = await startTestServer();
    world = await hostileWorld(server);
    store = join(server.folder, 'home', 'store');
  });
  afterAll(() => server.close());

  /** A program with the client, and what it printed, line by line as JSON. */
  async function python(
    code: string,
    env: Record<string, string> = {},
  ): Promise<{ end: ForeignEnd; lines: unknown[] }> {
    const program = [
      'import json, sys, os',
      `sys.path.insert(0, ${JSON.stringify(join(client, '..'))})`,
      'sys.dont_write_bytecode = True',
      'from sweepbook import Sweepbook, SweepbookError, discover_token',
      'def say(value): print(json.dumps(value), flush=True)',
      code,
    ].join('\n');
    const end = await runForeign('python3', ['-c', program], {
      env: { PYTHONUTF8: '1', URL: server.address, TMPDIR: folder, ...env },
    });
    expect(end.stderr).toBe('');
    const lines = end.stdout.split('\n').filter((line) => line !== '');
    return { end, lines: lines.map((line) => JSON.parse(line) as unknown) };
  }

  const commandLine = (args: string[], env: Record<string, string> = {}) =>
    runForeign('python3', ['-B', client, '--url', server.address, ...args], {
      env: { PYTHONUTF8: '1', TMPDIR: folder, ...env },
    });

  test('is written in Python 3.8 with nothing but its own library', async () => {
    const { lines } = await python(`import ast
tree = ast.parse(open(${JSON.stringify(client)}).read(), feature_version=(3, 8))
names = [n.name for t in ast.walk(tree) if isinstance(t, ast.Import) for n in t.names]
names += [t.module for t in ast.walk(tree) if isinstance(t, ast.ImportFrom)]
say([n for n in names if hasattr(sys, 'stdlib_module_names') and n.split('.')[0] not in sys.stdlib_module_names])`);
    expect(lines).toEqual([[]]);
  });

  test('lists the files of a dataset, whatever they are called', async () => {
    const { lines } = await python(`book = Sweepbook(os.environ['URL'])
say([file['lfn'] for file in book.files('hostile')])
say(list(book.files('hostile', 'txt')))
say([file['lfn'] for file in book.files('hostile', runs='100-101', split=10**6)])
say(list(book.list_text('hostile', 'runs', runs='100'))[0])`);
    expect(lines).toEqual([
      world.files.map(({ lfn }) => lfn),
      world.files.map(({ lfn }) => store + lfn),
      world.files
        .filter(({ description }) =>
          [100, 101].includes((description['runs'] as { number: number }[])[0]?.number ?? 0),
        )
        .map(({ lfn }) => lfn),
      '{"100":[[1,4294967295]]}',
    ]);
  });

  test('asks for datasets, page by page, and for one', async () => {
    await makeDataset(server.operator, 'python-b', 'CLOSED');
    await makeDataset(server.operator, 'python-a', 'CLOSED');
    const { lines } = await python(`book = Sweepbook(os.environ['URL'])
say([found['name'] for found in book.datasets(name={'glob': 'python-*'})])
say(book.dataset('python-a')['fileCount'])
say(book.dataset('nothing'))`);
    expect(lines).toEqual([['python-a', 'python-b'], 1, null]);
  });

  test('tells refusals by their codes', async () => {
    await makeDataset(server.operator, 'python-bad', 'BAD');
    const { lines } = await python(`book = Sweepbook(os.environ['URL'], patience=0)
for work in (
  lambda: list(book.files('nothing')),
  lambda: book.dataset('python-bad'),
  lambda: list(book.files('python-bad')),
  lambda: list(book.files('hostile', runs='x')),
  lambda: book.query('{ nothing }'),
  lambda: Sweepbook(os.environ['URL'], token='sbk_wrong').dataset('hostile'),
  lambda: Sweepbook('http://127.0.0.1:1', patience=0).dataset('hostile'),
):
  try: say(work())
  except SweepbookError as error: say([error.code, error.facts.get('reason')])`);
    expect(lines).toEqual([
      ['NOT_FOUND', null],
      ['DATASET_BAD', 'the tape was wet'],
      ['DATASET_BAD', 'the tape was wet'],
      ['BAD_USER_INPUT', null],
      ['BAD_USER_INPUT', null],
      ['UNAUTHENTICATED', null],
      ['NO_ANSWER', null],
    ]);
  });

  test('finds its token as WLCG tools do', async () => {
    const file = join(folder, 'token');
    writeFileSync(file, 'from-file\n');
    const runtime = mkdtempSync(join(folder, 'run-'));
    writeFileSync(join(runtime, `bt_u${process.getuid?.()}`), 'from-runtime\n');
    const temporary = mkdtempSync(join(folder, 'tmp-'));
    writeFileSync(join(temporary, `bt_u${process.getuid?.()}`), 'from-tmp\n');
    const all = { BEARER_TOKEN_FILE: file, XDG_RUNTIME_DIR: runtime, TMPDIR: temporary };
    const { lines } = await python(
      `for environment in json.loads(os.environ['CASES']):
  try: say(discover_token(environment))
  except SweepbookError as error: say(error.code)`,
      {
        CASES: JSON.stringify([
          { ...all, BEARER_TOKEN: ' direct ' },
          all,
          { ...all, BEARER_TOKEN_FILE: '' },
          { TMPDIR: temporary },
          { TMPDIR: folder },
          { ...all, BEARER_TOKEN_FILE: '/nothing' },
          { ...all, BEARER_TOKEN_FILE: '/dev/null' },
        ]),
      },
    );
    expect(lines).toEqual([
      'direct',
      'from-file',
      'from-runtime',
      'from-tmp',
      null,
      'UNAUTHENTICATED',
      'from-runtime',
    ]);
    const token = await server.tokenOf('snake', 'OPERATOR');
    const asked = await python(`say(Sweepbook(os.environ['URL']).query('{ viewer { name } }'))`, {
      BEARER_TOKEN: token,
    });
    expect(asked.lines).toEqual([{ viewer: { name: 'snake' } }]);
  });

  const busy: Step = { status: 503, retryAfter: '0', body: '<html>busy</html>' };

  test('comes back when it is told to, and after cut connections', async () => {
    const refused = JSON.stringify({ code: 'RATE_LIMITED', message: 'too many', facts: {} });
    const front = await startFront(server.address, [
      busy,
      { status: 429, retryAfter: '0', body: refused },
      'hang up',
      busy,
    ]);
    const { lines } = await python(
      `book = Sweepbook(os.environ['FRONT'], patience=60)
say(len(list(book.files('hostile'))))
say(book.dataset('hostile')['name'])`,
      { FRONT: front.address },
    );
    expect(lines).toEqual([world.files.length, 'hostile']);
    expect(front.log).toEqual(['503', '429', 'hang up', '503', 'pass', 'pass']);
    await front.close();
  });

  test('waits as long as it is told to, and gives up when its patience ends', async () => {
    const front = await startFront(server.address, [
      { status: 503, retryAfter: '2' },
      { status: 503, retryAfter: '3600' },
    ]);
    const { lines } = await python(
      `import time
start = time.monotonic()
book = Sweepbook(os.environ['FRONT'], patience=60)
try: book.dataset('hostile')
except SweepbookError as error: say([error.code, time.monotonic() - start >= 2])`,
      { FRONT: front.address },
    );
    expect(lines).toEqual([['NO_ANSWER', true]]);
    expect(front.log).toEqual(['503', '503']);
    await front.close();
  });

  test('never takes a list that was cut off for complete', async () => {
    for (const cutAfter of [900, 1500, 4000]) {
      const front = await startFront(server.address, [{ cutAfter }]);
      const { lines } = await python(
        `try:
  for file in Sweepbook(os.environ['FRONT']).files('hostile'): pass
  say('complete')
except SweepbookError as error: say(error.code)`,
        { FRONT: front.address },
      );
      expect(lines).toEqual(['CUT_OFF']);
      await front.close();
    }
    // A proxy that ends the answer in order after half of it.
    const stranger = await startStranger('{"lfn":"/a","urls":["/a"]}\n');
    const { lines } = await python(
      `try: say(list(Sweepbook(os.environ['FRONT']).files('x')))
except SweepbookError as error: say(error.code)`,
      { FRONT: stranger.address },
    );
    expect(lines).toEqual(['CUT_OFF']);
    await stranger.close();
  });

  test('follows status changes: each at least once, none left out, from where it stopped', async () => {
    const { lines: before } = await python(`say(Sweepbook(os.environ['URL']).marker('hostile'))`);
    const names = Array.from({ length: 6 }, (_, i) => `followed-${i}`);
    for (const name of names) await makeDataset(server.operator, name, 'CLOSED');
    await mutate(server.operator, 'markDatasetBad', { dataset: 'followed-0', reason: 'wet' });
    await mutate(server.operator, 'clearDatasetBad', { dataset: 'followed-0', reason: 'dry' });
    await allTold(server.database);
    const front = await startFront(server.address, ['hang up', busy, { cutAfter: 300 }]);
    const { lines } = await python(
      `after = os.environ['AFTER']
while True:
  # Dies after each third event, and goes on from the last cursor.
  last = None
  for at, event in enumerate(Sweepbook(os.environ['FRONT']).follow(after=after, wait=False)):
    say([event['kind'], event['dataset']['name'], event['from'], event['to'], event['reason']])
    after = last = event['cursor']
    if at == 2: break
  if last is None: break`,
      { AFTER: String(before[0]), FRONT: front.address },
    );
    await front.close();
    expect(front.log.slice(0, 3)).toEqual(['hang up', '503', 'cut']);
    const status = (name: string) => [
      ['DATASET_STATUS', name, null, 'OPEN', null],
      ['DATASET_STATUS', name, 'OPEN', 'BACKED_UP', null],
      ['DATASET_STATUS', name, 'BACKED_UP', 'CLOSED', null],
    ];
    expect(lines).toEqual([
      ...names.flatMap(status),
      ['DATASET_MARKED_BAD', 'followed-0', 'CLOSED', 'CLOSED', 'wet'],
      ['DATASET_CLEARED', 'followed-0', 'CLOSED', 'CLOSED', 'dry'],
    ]);
  });

  test('waits for what is still to come', async () => {
    const { lines: before } = await python(`say(Sweepbook(os.environ['URL']).marker('hostile'))`);
    const following = python(
      `for event in Sweepbook(os.environ['URL']).follow(after=os.environ['AFTER'], dataset='expected', poll=0.1):
  say(event['to'])
  if event['to'] == 'CLOSED': break`,
      { AFTER: String(before[0]) },
    );
    await makeDataset(server.operator, 'expected', 'CLOSED');
    expect((await following).lines.at(-1)).toBe('CLOSED');
  });

  test('is a command', async () => {
    expect(await commandLine(['files', 'hostile'])).toEqual({
      code: 0,
      stdout: world.files.map(({ lfn }) => `${store}${lfn}\n`).join(''),
      stderr: '',
    });
    expect(await commandLine(['files', 'nothing'])).toMatchObject({ code: 4, stdout: '' });
    expect(await commandLine(['files', 'hostile', '--runs', 'x'])).toMatchObject({
      code: 2,
      stdout: '',
    });
    expect(await commandLine(['datasets', 'hos*'])).toMatchObject({ code: 0, stdout: 'hostile\n' });
    expect((await commandLine(['dataset', 'hostile'])).stdout).toContain('"fileCount": ');
    const events = await commandLine(['follow', '--no-wait']);
    expect(
      events.stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { to: string }).to),
    ).toContain('CLOSED');
    const front = await startFront(server.address, [{ cutAfter: 1500 }, { cutAfter: 1500 }]);
    const env = { SWEEPBOOK_URL: front.address, PYTHONUTF8: '1', TMPDIR: folder };
    const cut = await runForeign('python3', ['-B', client, 'files', 'hostile', '--tries', '1'], {
      env,
    });
    expect(cut).toMatchObject({ code: 5, stdout: '' });
    const again = await runForeign('python3', ['-B', client, 'files', 'hostile'], { env });
    expect(again.code).toBe(0);
    expect(again.stdout.split('\n')).toHaveLength(world.files.length + 1);
    await front.close();
  });
});
