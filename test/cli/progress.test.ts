import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeFile } from '../support/files.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
beforeAll(async () => (server = await startTestServer()));
afterAll(() => server.close());

const launcher = fileURLToPath(new URL('../../bin/sweepbook', import.meta.url));

/** What a terminal of so many columns is sent while a command runs. */
async function onTerminal(columns: number, args: string[], token: string): Promise<string> {
  const command = `stty cols ${columns}; exec sh '${launcher}' ${args.join(' ')}`;
  const child = spawn('script', ['-qefc', command, '/dev/null'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      TERM: 'xterm',
      SWEEPBOOK_URL: server.address,
      SWEEPBOOK_TOKEN: token,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let sent = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (sent += text));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect(code, sent).toBe(0);
  return sent;
}

/** The lines that stay: what is emptied or written over is gone. */
const left = (sent: string) =>
  sent.split('\r\n').map((line) => line.split('\u001b[K').at(-1)?.split('\r').at(-1) ?? '');

test('the bar and the lines beside it do not disturb each other', async () => {
  if (!existsSync('/usr/bin/script')) {
    console.warn('NOT TESTED: the progress bar on a terminal needs script(1)');
    return;
  }
  const folder = join(server.folder, 'files');
  mkdirSync(folder);
  const paths = Array.from({ length: 5 }, (_, at) => join(folder, `${at}.root`));
  for (const path of paths) await makeFile(path, path, 8_000_000);
  const token = await server.tokenOf('operator', 'OPERATOR');
  const sent = await onTerminal(56, ['sweep', ...paths, '--dataset', 'on-terminal'], token);
  expect(sent).toMatch(/backing up \[[#-]{15}\] .* of 40\.0 MB/);
  // Nothing but "empty this line" moves the cursor or changes the terminal.
  // eslint-disable-next-line no-control-regex
  expect(sent.replaceAll('\u001b[K', '')).not.toMatch(/\u001b/);
  const lines = left(sent);
  const confirmed = lines.filter((line) => line.startsWith('confirmed'));
  expect(confirmed).toHaveLength(5);
  for (const line of confirmed) expect(line).toMatch(/ default:on-terminal\/\d\.root$/);
  expect(lines.slice(-3)).toEqual([
    'on-terminal is BACKED_UP',
    'on-terminal is CLOSED: 5 files, 40000000 bytes',
    '',
  ]);
});
