import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProgram, type Ended } from '../support/program.ts';
import { isSigned, startReceiver, status, type Receiver } from '../support/receiver.ts';
import { makeDataset } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;
let receiver: Receiver;
let token: string;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WEBHOOK_PRIVATE: 'true' });
  receiver = await startReceiver();
  token = readFileSync(join(server.folder, 'home', 'operator-token'), 'utf8').trim();
});
afterAll(async () => {
  await receiver.close();
  await server.close();
});

const run = (...args: string[]): Promise<Ended> =>
  runProgram(args, { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token });

test('a webhook from its first day to its last', async () => {
  expect(await run('webhook', 'list', '--json')).toMatchObject({ code: 0, stdout: '[]\n' });
  expect(await run('webhook', 'create', receiver.url, '--scope', 'elsewhere')).toMatchObject({
    code: 2,
  });
  const created = await run(
    'webhook',
    'create',
    receiver.url,
    '--kind',
    'all',
    '--datasets',
    'cli-*',
  );
  expect(created).toMatchObject({ code: 0, stdout: expect.stringMatching(/^whsec_\S+\n$/) });
  const id = /webhook (\S+): keep the secret/.exec(created.stderr)?.[1] ?? '';
  expect(await run('webhook', 'test', id)).toMatchObject({
    code: 0,
    stdout: `webhook ${id}: HTTP 204\n`,
  });
  const [first] = receiver.received;
  expect(first && isSigned(first, created.stdout.trim())).toBe(true);

  receiver.answer(status(500));
  await makeDataset(server.operator, 'cli-a', 'BAD');
  const failed = await until('a failure is shown', async () => {
    const { stdout } = await run('webhook', 'list');
    return stdout.includes('failed') && stdout;
  });
  expect(failed).toMatch(new RegExp(`${id} +operator +ENABLED +${receiver.url}`));
  expect(failed).toContain('HTTP 500');
  receiver.answer(status(204));
  await run('webhook', 'enable', id);
  await until('told', () =>
    receiver.received.some(({ body }) => body.type === 'dataset.marked_bad'),
  );
  const [listed] = (await run('webhook', 'list', '--json')).stdout.split('\n');
  expect(JSON.parse(listed ?? '')).toMatchObject({ id, datasets: { glob: 'cli-*' } });
  expect(await run('webhook', 'delete', id)).toMatchObject({
    code: 0,
    stdout: `webhook ${id} to ${receiver.url} is deleted\n`,
  });
  expect(await run('webhook', 'delete', id)).toMatchObject({ code: 4 });
  expect(await run('webhook', 'create', 'ftp://x')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^sweepbook: url "ftp:\/\/x": an https or http address/),
  });
});

test('a receiver that does not take the test makes the command fail', async () => {
  receiver.answer(status(404));
  const { stderr } = await run('webhook', 'create', receiver.url);
  const id = /webhook (\S+): keep/.exec(stderr)?.[1] ?? '';
  expect(await run('webhook', 'test', id)).toMatchObject({
    code: 1,
    stdout: `webhook ${id}: failed: HTTP 404\n`,
  });
});

test('a job reports what it could not read, an operator sees what came of it', async () => {
  const [file] = await makeDataset(server.operator, 'reported', 'CLOSED');
  const lfn = file?.lfn ?? '';
  const url = join(server.folder, 'home', 'store', lfn);
  const report = (job: string, of = url) =>
    run('file', 'report-failure', lfn, of, '--error', 'read: EIO\nin line 7', '--job', job);
  expect(await report('1')).toMatchObject({
    code: 0,
    stdout: `${lfn}: reported, the copy is REPORTED\n`,
  });
  expect((await report('1')).stdout).toContain('(this job had said so before)');
  expect(await report('1', '/elsewhere')).toMatchObject({ code: 4 });
  expect((await report('2')).stdout).toContain('REPORTED');
  const { stdout } = await run('file', 'suspicious');
  expect(stdout).toMatch(/ID +STATE +JOBS +LFN +COPY/);
  expect(stdout).toContain('read: EIO\\nin line 7');
  const id = stdout.split('\n')[1]?.split(' ')[0] ?? '';
  expect(await run('file', 'check-copy', id)).toMatchObject({
    code: 0,
    stdout: `${lfn}: a worker is going to read it\n`,
  });
  const good = await until('it is read', async () => {
    const list = await run(
      'file',
      'suspicious',
      '--state',
      'checked_good',
      '--lfn',
      '*reported*',
      '--json',
    );
    return list.stdout.startsWith('{') && list.stdout;
  });
  expect(JSON.parse(good)).toMatchObject({
    lfn,
    jobCount: 2,
    finding: expect.stringContaining('read in full'),
    reports: [{ job: '2' }, { job: '1', reportCount: 2 }],
  });
  expect(await run('file', 'suspicious', '--json')).toMatchObject({ code: 0, stdout: '[]\n' });
});
