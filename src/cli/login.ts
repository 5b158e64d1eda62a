import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import type { Command } from 'commander';
import { keptTokens, keptTokensFile } from '../client-settings.ts';
import { Client } from './client.ts';
import { addVerb, runs, type Context } from './command.ts';
import { Interrupted, wrongUsage } from './exit-codes.ts';
import { whoamiQuery, type Viewer } from './whoami.ts';

export function addLoginCommands(program: Command): void {
  runs(
    addVerb(program, 'login', 'keep a token for this server; it is asked for, or read from stdin'),
    login,
  );
  runs(addVerb(program, 'logout', 'forget the token that login has kept for this server'), logout);
}

/** Asks the server whose token it is before it is kept: a wrong one is of no use later. */
async function login({ client, output, signal }: Context): Promise<void> {
  const { url } = client.settings;
  const token = process.stdin.isTTY
    ? await askHidden(`Token for ${url}: `)
    : (await textOf(process.stdin)).trim();
  if (!/^[\x21-\x7e]+$/.test(token))
    throw wrongUsage('a token is one word of ASCII: none was given');
  const asked = new Client(() => ({ url, token, tokenFrom: 'what you gave' }), signal);
  const { viewer } = await asked.call<{ viewer: Viewer }>(whoamiQuery);
  keep(url, token);
  const until = viewer.expiresAt === null ? '' : `, until ${viewer.expiresAt}`;
  const can = viewer.roles.join(', ') || 'no roles';
  await output.result(viewer, `${url} knows you as ${viewer.principal} (${can}${until})`);
}

async function logout({ client, output }: Context): Promise<void> {
  const { url } = client.settings;
  const changed = keptTokens(process.env)[url] !== undefined;
  if (changed) keep(url, undefined);
  const what = changed ? 'is forgotten here; "token revoke" ends it' : 'was not kept';
  await output.result({ url, changed }, `the token for ${url} ${what}`);
}

/** Whole or not at all, and for nobody else's eyes. */
function keep(url: string, token: string | undefined): void {
  const file = keptTokensFile(process.env);
  const { [url]: _old, ...others } = keptTokens(process.env);
  const kept = token === undefined ? others : { ...others, [url]: token };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}`;
  writeFileSync(fresh, `${JSON.stringify(kept, null, 2)}\n`, { mode: 0o600 });
  chmodSync(fresh, 0o600);
  renameSync(fresh, file);
}

/** A line from the terminal that is not shown. */
function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding('utf8');
  return new Promise((resolve, reject) => {
    let line = '';
    const end = (done: () => void) => {
      stdin.setRawMode(false);
      stdin.pause();
      stdin.removeAllListeners('data');
      stderr.write('\n');
      done();
    };
    stdin.on('data', (typed: string) => {
      for (const sign of typed) {
        if (sign === '\u0003' || sign === '\u0004') return end(() => reject(new Interrupted()));
        if (sign === '\r' || sign === '\n') return end(() => resolve(line.trim()));
        line = sign === '\u007f' || sign === '\b' ? line.slice(0, -1) : line + sign;
      }
    });
  });
}
