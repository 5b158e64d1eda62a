import type { Argument, Command, Option } from 'commander';
import { makeProgram } from '../../src/cli/program.ts';

/** A place of the command line that takes a text, and the command with this text in it. */
export interface CommandPlace {
  readonly name: string;
  /** What is read or written on this host is the user's own business: only texts that name something below the folder. */
  readonly isLocal: boolean;
  args(text: string): string[];
}

/** Good values of what a command needs: by `command name`, else by the name. A new one needs its own here. */
const good: Record<string, string> = {
  'container name': 'list',
  'dataset name': 'closed',
  'dataset create name': 'hostile-cli',
  'container create name': 'hostile-cli',
  'group name': 'hostile-group',
  archive: 'no-such.tar',
  dataset: 'closed',
  error: 'EIO',
  file: 'no-such-file',
  id: '1',
  import: '101',
  incident: '1',
  job: '1',
  kind: 'PR',
  lfn: '/merged/1',
  member: 'x',
  number: '1',
  prefix: '000000000000',
  principal: 'hostile',
  publication: '1',
  reason: 'a test',
  request: '1',
  role: 'USER',
  rule: '1',
  site: 'local',
  url: 'https://hooks.example.org/x',
  users: 'hostile',
  verdict: 'GOOD',
};
/** Names of what is read or written where the command runs. */
const local =
  /^(file|path|archive|output|files-from|datasets-from|cursor-file|marker-file|manifest)$/;
/** What the user has run on his own host. */
const left = new Set(['events-command']);
/** Programs that stay, or that make a database. */
const leftCommands = new Set(['serve', 'worker', 'migrate']);

function* leaves(
  command: Command,
  path: readonly string[] = [],
): Generator<{ command: Command; path: string[] }> {
  if (command.commands.length === 0) yield { command, path: [...path] };
  for (const inner of command.commands) yield* leaves(inner, [...path, inner.name()]);
}

function goodValue(path: readonly string[], name: string): string {
  for (const length of [2, 1, 0]) {
    const value = good[[...path.slice(0, length), name].join(' ')];
    if (value !== undefined) return value;
  }
  throw new Error(`${path.join(' ')} needs ${name}: say a good value in test/hostile/commands.ts`);
}

const takesText = (option: Option) => option.required || option.optional;
const nameOf = (option: Option) => option.long?.slice(2) ?? '';

function placesOf(command: Command, path: string[]): CommandPlace[] {
  const needed = command.options.filter((option) => option.mandatory);
  const args = (of: readonly Argument[], but?: Argument, text = '') =>
    of
      .filter((one) => one.required || one === but)
      .map((one) => (one === but ? text : goodValue(path, one.name())));
  const options = (but?: Option) =>
    needed.flatMap((one) =>
      one === but ? [] : [`--${nameOf(one)}`, goodValue(path, nameOf(one))],
    );
  const shown = path.join(' ');
  const ofArguments = command.registeredArguments.map((one) => ({
    name: `${shown} <${one.name()}>`,
    isLocal: local.test(one.name()),
    // Behind "--", or it would be an option; and as it is, on other days.
    args: (text: string) => [
      ...path,
      ...options(),
      ...(text.startsWith('-') ? ['--'] : []),
      ...args(command.registeredArguments, one, text),
    ],
  }));
  const ofOptions = command.options
    .filter(
      (one) =>
        takesText(one) && !left.has(nameOf(one)) && !['url', 'token-file'].includes(nameOf(one)),
    )
    .map((one) => ({
      name: `${shown} --${nameOf(one)}`,
      isLocal: local.test(nameOf(one)),
      args: (text: string) => [
        ...path,
        ...options(one),
        `--${nameOf(one)}=${text}`,
        ...args(command.registeredArguments),
      ],
    }));
  return [...ofArguments, ...ofOptions];
}

/** Every text of every command; and those that all commands have, with one of them. */
export function commandPlaces(): CommandPlace[] {
  const ofAll = [
    { name: '--url', isLocal: false, args: (text: string) => ['whoami', `--url=${text}`] },
    {
      name: '--token-file',
      isLocal: true,
      args: (text: string) => ['whoami', `--token-file=${text}`],
    },
    { name: 'an option', isLocal: false, args: (text: string) => ['dataset', 'list', text] },
    { name: 'a command', isLocal: false, args: (text: string) => [text] },
    { name: 'a verb', isLocal: false, args: (text: string) => ['dataset', text, 'closed'] },
  ];
  const found = [...leaves(makeProgram())]
    .filter(({ path }) => !leftCommands.has(path[0] ?? ''))
    .flatMap(({ command, path }) => placesOf(command, path));
  return [...ofAll, ...found];
}
