import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exitCode } from '../../src/cli/exit-codes.ts';
import { clientOf } from '../support/client.ts';
import { startProgram } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { isTried } from '../support/turns.ts';
import { commandPlaces, type CommandPlace } from './commands.ts';
import { corpus, isOfPart, isWhole, shares, unprintable } from './corpus.ts';
import { openStage, planted, type Stage } from './stage.ts';

let stage: Stage;
let before: unknown[];
beforeAll(async () => {
  stage = await openStage();
  before = (await stage.state()).structure;
  mkdirSync(join(stage.folder, 'cwd'));
});
afterAll(() => stage.close());

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const host = fileURLToPath(new URL('cli-host.ts', import.meta.url));
/** So many run commands at once: one that waits for the server lets others go on. */
const hosts = 4;
let batch = 0;

/** What came of these commands: each host runs its share of them, one after the other. */
async function run(commands: readonly string[][]): Promise<Ended[]> {
  const ofHost = (at: number) => commands.filter((_, i) => i % hosts === at);
  const ended = await Promise.all(
    Array.from({ length: Math.min(hosts, commands.length) }, (_, at) => runOn(ofHost(at))),
  );
  return commands.map((_, i) => ended[i % hosts]?.[Math.floor(i / hosts)] as Ended);
}

async function runOn(commands: readonly string[][]): Promise<Ended[]> {
  const file = join(stage.folder, `commands-${batch++}`);
  writeFileSync(file, JSON.stringify(commands));
  const child = spawn(process.execPath, [host, file], {
    cwd: join(stage.folder, 'cwd'),
    env: {
      PATH: process.env['PATH'],
      HOME: stage.folder,
      SWEEPBOOK_URL: stage.address,
      SWEEPBOOK_TOKEN: stage.token,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(child, 'close')) as [number | null];
  expect(code, said).toBe(0);
  return JSON.parse(readFileSync(`${file}.done`, 'utf8')) as Ended[];
}

const codes: readonly number[] = Object.values(exitCode);
const lines = (text: string) => text.replace(/\n$/, '').split('\n');

/** What is wrong with how a command ended. */
function faultsOf(about: string, { code, stdout, stderr }: Ended): string[] {
  const faults: string[] = [];
  if (!codes.includes(code)) faults.push(`${about}: exit code ${code}`);
  for (const line of [...lines(stdout), ...lines(stderr)]) {
    if (unprintable.test(line))
      faults.push(`${about}: unprintable in ${JSON.stringify(line.slice(0, 300))}`);
  }
  if (/\n\s+at .*:\d+:\d+/.test(stderr)) faults.push(`${about}: a stack: ${stderr.slice(0, 300)}`);
  if (/something went wrong inside/.test(stderr)) faults.push(`${about}: ${stderr}`);
  const isWrong = ![exitCode.done, exitCode.partly, exitCode.interrupted].includes(code as 0);
  // A report on what was asked for says itself that there is nothing; who names no command is shown all of them.
  const isTold = /^sweepbook: .{3,}\n$/m.test(stderr) || stderr.startsWith('Usage: sweepbook ');
  if (isWrong && stdout === '' && !isTold) {
    faults.push(
      `${about}: exit ${code}, and no line says why: ${JSON.stringify(stderr.slice(0, 300))}`,
    );
  }
  return faults;
}

const isOfThisFolder = (text: string) => !/^[/~]|\.\.|^-$/.test(text);

test(
  'every text of every command: a documented exit code, and lines that are lines',
  { timeout: 3_600_000 },
  async () => {
    // No system hands over a NUL or half a character.
    const texts = corpus(stage.forbidden).filter(
      ({ text }) => text.isWellFormed() && !text.includes('\0'),
    );
    const places = commandPlaces();
    // Half of them come to every place about once.
    const share = texts.filter((_, i) => isWhole || i % 2 === 0);
    expect(places.length).toBeGreaterThan(250);
    const tried = [...shares(share, places, 1)].filter(
      ({ place, hostile }) => !place.isLocal || isOfThisFolder(hostile.text),
    );
    const ended = await run(tried.map(({ place, hostile }) => place.args(hostile.text)));
    const faults = tried.flatMap(({ place, hostile }, i) =>
      faultsOf(`${place.name} ← ${JSON.stringify(hostile.text.slice(0, 80))}`, ended[i] as Ended),
    );
    expect(faults).toEqual([]);
  },
);

/** Much of it in one. */
const rude = [
  '\u001b]52;c;eA==\u0007\u202egnp\u009b31m\u2028\r\n{"level":"fatal","msg":"forged"}\n\tat x (/src/x.ts:1:1)',
  "__proto__'; drop table datasets; --$(touch /tmp/hostile-was-here)%s%n\\.\n\\N",
  '/../../../etc/passwd\u001b[2J\ue000\u{1f600}e\u0301\ufeff',
];

/** The first place of each command, and what has none of its own. */
function aPlaceOfEach(): CommandPlace[] {
  const found = new Map<string, CommandPlace>();
  for (const place of commandPlaces().filter(({ isLocal }) => !isLocal)) {
    const command = place.name.replace(/ \S+$/, '');
    if (!found.has(command)) found.set(command, place);
  }
  return [...found.values()];
}

test('in a process of its own, likewise', { timeout: 3_600_000 }, async () => {
  const places = aPlaceOfEach();
  expect(places.length).toBeGreaterThan(90);
  const work = places
    .flatMap((place) => rude.map((text) => ({ place, text })))
    .filter((_, at) => isOfPart(at) && isTried(at, 1, 25))
    .values();
  const faults: string[] = [];
  const starter = async () => {
    for (const { place, text } of work) {
      const program = startProgram(
        place.args(text),
        { HOME: stage.folder, SWEEPBOOK_URL: stage.address, SWEEPBOOK_TOKEN: stage.token },
        { cwd: join(stage.folder, 'cwd') },
      );
      const late = setTimeout(() => program.process.kill('SIGINT'), 5000);
      const ended = await program.ended;
      clearTimeout(late);
      faults.push(
        ...faultsOf(`${place.name} ← ${JSON.stringify(text)}`, {
          ...ended,
          code: ended.code ?? -1,
        }),
      );
    }
  };
  await Promise.all([starter(), starter()]);
  expect(faults).toEqual([]);
});

test('nothing was made, dropped or reached outside', async () => {
  expect((await stage.state()).structure).toEqual(before);
  expect(existsSync(planted)).toBe(false);
});

test('what stands in the book moves no cursor, as a table or as JSON', async () => {
  const admin = clientOf(stage.address, stage.token);
  const texts = corpus().filter(
    ({ family, text }) =>
      /terminal|control|log|unicode/.test(family) &&
      text.isWellFormed() &&
      !text.includes('\0') &&
      text.trim() !== '',
  );
  const description = texts
    .map(({ text }) => text)
    .join(' | ')
    .slice(0, 9000)
    .toWellFormed();
  await mutate(admin, 'createDataset', { name: 'hostile-shown', kind: 'USER', description });
  await mutate(admin, 'createContainer', { name: 'hostile-shown', description });
  await mutate(admin, 'markDatasetBad', {
    dataset: 'closed',
    reason: description.slice(0, 900).toWellFormed(),
  });
  const shown = [
    ['dataset', 'show', 'hostile-shown'],
    ['dataset', 'list'],
    ['dataset', 'show', 'closed'],
    ['dataset', 'history', 'closed'],
    ['container', 'show', 'hostile-shown'],
    ['container', 'list'],
  ];
  const commands = shown.flatMap((args) => [args, [...args, '--json']]);
  const ended = await run(commands);
  expect(ended.map(({ code }) => code)).toEqual(commands.map(() => 0));
  expect(commands.flatMap((args, i) => faultsOf(args.join(' '), ended[i] as Ended))).toEqual([]);
  // Nothing of it is lost where a program reads it.
  expect(JSON.parse(ended[1]?.stdout ?? '')).toMatchObject({ description });
});
