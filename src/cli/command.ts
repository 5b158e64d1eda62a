import { type Command, InvalidArgumentError } from 'commander';
import { readClientSettings, type ClientSettings } from '../client-settings.ts';
import { Client } from './client.ts';
import { exitCode, Interrupted, wrongUsage, type ExitCode } from './exit-codes.ts';
import { Output } from './print.ts';

/** What a command works with. */
export interface Context {
  readonly client: Client;
  readonly output: Output;
  readonly signal: AbortSignal;
}

interface GlobalOptions {
  readonly json?: boolean;
  readonly url?: string;
  readonly tokenFile?: string;
  readonly anonymous?: boolean;
}

/** The options that every command has. */
export function addGlobalOptions(command: Command): Command {
  return command
    .option('--json', 'print JSON lines')
    .option('--url <address>', 'address of the server (SWEEPBOOK_URL)')
    .option('--token-file <file>', 'file that holds the token (SWEEPBOOK_TOKEN_FILE)')
    .option('--anonymous', 'show no token: see what everybody sees');
}

/** A group of commands: the noun. */
export function addNoun(program: Command, name: string, description: string): Command {
  return program.command(name).description(description).enablePositionalOptions();
}

/** A command that does something: the verb. */
export function addVerb(parent: Command, usage: string, description: string): Command {
  return addGlobalOptions(parent.command(usage).description(description));
}

type Work<Options, Arguments extends unknown[]> = (
  context: Context,
  options: Options,
  ...values: Arguments
) => Promise<ExitCode | undefined | void>;

/** Runs the work with a client of the server; its answer is the exit code (nothing = done). */
export function runs<Options, Arguments extends unknown[] = []>(
  command: Command,
  work: Work<Options, Arguments>,
): void {
  command.action(async (...given: unknown[]) => {
    // Commander calls with the arguments, the options, and the command.
    const values = given.slice(0, -2) as Arguments;
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const signal = stopSignal();
    const client = new Client(() => clientSettings(options), signal);
    const output = new Output(options.json === true);
    process.exitCode =
      (await work({ client, output, signal }, options, ...values)) ?? exitCode.done;
  });
}

/** Runs work that asks no server: no address, no token, no client. */
export function runsHere<Options, Arguments extends unknown[] = []>(
  command: Command,
  work: (
    context: Omit<Context, 'client'>,
    options: Options,
    ...values: Arguments
  ) => Promise<ExitCode>,
): void {
  command.option('--json', 'print JSON lines').action(async (...given: unknown[]) => {
    const values = given.slice(0, -2) as Arguments;
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const output = new Output(options.json === true);
    process.exitCode = await work({ output, signal: stopSignal() }, options, ...values);
  });
}

/** The first Ctrl-C asks the command to stop, the second one ends it. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(exitCode.interrupted);
      controller.abort(new Interrupted());
    });
  }
  return controller.signal;
}

function clientSettings(options: GlobalOptions): ClientSettings {
  const environment = { ...process.env };
  if (options.url !== undefined) environment['SWEEPBOOK_URL'] = options.url;
  if (options.tokenFile !== undefined) {
    delete environment['SWEEPBOOK_TOKEN'];
    environment['SWEEPBOOK_TOKEN_FILE'] = options.tokenFile;
  }
  const settings = readClientSettings(environment, options.anonymous !== true);
  if (!/^https?:\/\//.test(settings.url) || !URL.canParse(settings.url)) {
    throw wrongUsage(
      `address ${settings.url}: must be like http://127.0.0.1:4000 (--url or SWEEPBOOK_URL)`,
    );
  }
  if (settings.token !== undefined && !/^[\x21-\x7e]+$/.test(settings.token)) {
    throw wrongUsage(`the token of ${settings.tokenFrom} is not one word of ASCII: look at it`);
  }
  return settings;
}

/** For options that take a whole number. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('It must be a whole number.');
  }
  return value;
}

/** For options that take one or several words of a list: "OPEN,CLOSED"; "all" = every one. */
export function wordsOf(allowed: readonly string[]): (text: string, before?: string[]) => string[] {
  return (text, before = []) => {
    const words = text.toUpperCase().split(',');
    if (words.length === 1 && words[0] === 'ALL') return [...allowed];
    const wrong = words.find((word) => !allowed.includes(word));
    if (wrong !== undefined) {
      throw new InvalidArgumentError(`Allowed are ${allowed.join(', ')}, or several with commas.`);
    }
    return [...before, ...words];
  };
}

/** For options that take exactly one word of a list, in any case of letters. */
export function wordOf(allowed: readonly string[]): (text: string) => string {
  return (text) => {
    const word = text.toUpperCase();
    if (!allowed.includes(word)) {
      throw new InvalidArgumentError(`Allowed are ${allowed.join(', ')}.`);
    }
    return word;
  };
}

/** Adds to a list: an option that may be given several times. */
export function repeated(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
