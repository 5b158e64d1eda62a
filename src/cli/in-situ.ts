import { basename, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { SweepbookError } from '../errors.ts';
import { commandWords } from '../formats/event-count.ts';
import { exportFormats, formats, type ExportFormat } from '../formats/formats.ts';
import type { ExportFile, ListFacts } from '../formats/list.ts';
import { runsHere, wholeNumber, type Context } from './command.ts';
import { numbered } from './dataset-files.ts';
import { readFacts, wantedOf, type KnownFile } from './disk-facts.ts';
import { findFiles, type DiskFile } from './disk-files.ts';
import { CliError, exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import {
  checkAddressing,
  chunkOf,
  chunksOf,
  factsOf,
  listedFiles,
  textOf,
  unfitName,
  type ListOptions,
} from './in-situ-list.ts';
import { complain } from './print.ts';
import { exitOfFaults } from './register.ts';
import { counted } from './table.ts';
import { WholeFiles } from './whole-files.ts';

type Here = Omit<Context, 'client'>;

interface InSituOptions extends Omit<ListOptions, 'name'> {
  readonly inSitu?: boolean;
  readonly name?: string;
  readonly output?: string;
  readonly eventsCommand?: string;
  readonly checksums: boolean;
  readonly skipBad?: boolean;
  readonly json?: boolean;
}

/** `files --in-situ`: the lists of `dataset files`, of files that no bookkeeping knows. */
export function addInSituCommand(program: Command): void {
  const command = program
    .command('files [path...]')
    .description('the list of files on this host, as a job reads it; no server is asked or told')
    .option('--in-situ', 'of the files where they are: in these folders and below, or named')
    .addOption(
      new Option('--format <format>', 'txt = one path a line; --json is the same as jsonl')
        .choices(exportFormats)
        .default('txt'),
    )
    .option('--output <file>', 'write there, whole or not at all; with --split NAME-1, NAME-2, …')
    .option('--split <events>', 'cut into chunks of at most so many events', wholeNumber)
    .option('--chunk <number>', 'only this chunk', wholeNumber)
    .option('--tree <name>', 'the TTree or RNTuple that holds the events, if there are several')
    .option('--events-command <command>', "what prints a file's number of events: 'prog {file}'")
    .option('--url-prefix <url>', 'put this before the paths: root://se1.example.org/')
    .option('--strip <folder>', 'without this beginning of the paths')
    .option('--name <name>', 'of the sample, for rdataframe, coffea and tcl (the folder)')
    .option('--no-checksums', 'jsonl, csv, metalink: do not read the files for them')
    .option('--skip-bad', 'list the others if files cannot be read (exit code 3)')
    .option('--print0', 'txt: end each name with NUL, for xargs -0');
  runsHere<InSituOptions, [string[]]>(command, (here, options, paths) =>
    listInSitu(here, { ...options, format: options.json ? 'jsonl' : options.format }, paths),
  );
}

async function listInSitu(
  here: Here,
  given: InSituOptions,
  paths: readonly string[],
): Promise<ExitCode> {
  demandFitting(given, paths);
  const command = given.eventsCommand === undefined ? undefined : wordsOf(given.eventsCommand);
  const options = { ...given, name: given.name ?? nameOf(paths) };
  const found = await findFiles(paths, here.signal);
  for (const [why, names] of found.leftOut) complain(leftOutLine(why, names));
  const fitting: DiskFile[] = [];
  const faults = [...found.faults];
  for (const file of found.files) {
    const why = unfitName(file.path, options);
    if (why === undefined) fitting.push(file);
    else faults.push(new CliError(exitCode.failed, `${file.path}: ${why}`));
  }
  // Before hours of reading: without --skip-bad one of them is enough.
  let refusal = given.skipBad ? undefined : refused(faults);
  if (refusal !== undefined) return refusal;
  const known = await readFacts(
    fitting,
    wantedOf(formats[given.format], given, command),
    here.signal,
  );
  faults.push(...known.faults);
  refusal = given.skipBad && known.files.length > 0 ? undefined : refused(faults);
  if (refusal !== undefined) return refusal;
  if (known.files.length === 0) {
    throw new CliError(exitCode.notFound, `${paths.join(', ')}: no files are there`);
  }
  for (const fault of faults) complain(fault.message);
  tellUncounted(known.files, options);
  const files = listedFiles(known.files, options);
  await write(here, { files, facts: factsOf(known.files, options) }, options);
  return faults.length > 0 ? exitCode.partly : exitCode.done;
}

const mostTold = 20;

/** Says what is wrong with each; the exit code if there is any. */
function refused(faults: readonly CliError[]): ExitCode | undefined {
  if (faults.length === 0) return undefined;
  for (const fault of faults.slice(0, mostTold)) complain(fault.message);
  if (faults.length > mostTold) complain(`… and ${counted(faults.length - mostTold, 'file')} more`);
  complain('nothing is listed, since a list with holes looks whole: --skip-bad lists the others');
  return exitOfFaults(faults);
}

function demandFitting(options: InSituOptions, paths: readonly string[]): void {
  const { inSitu, format, print0, split, chunk, output } = options;
  if (!inSitu) {
    throw wrongUsage(
      'files of this host: files --in-situ FOLDER…; those of a dataset: dataset files NAME',
    );
  }
  if (paths.length === 0) throw wrongUsage('name the folders or files: files --in-situ FOLDER…');
  if (format === 'runs') {
    throw wrongUsage(
      'files on a disk do not say of which runs they are, so there is no mask of them: dataset files NAME --format runs',
    );
  }
  if (print0 && format !== 'txt') throw wrongUsage('--print0 goes with --format txt');
  if (split === 0 || chunk === 0) throw wrongUsage('--split and --chunk begin with 1');
  if (chunk !== undefined && split === undefined) throw wrongUsage('--chunk goes with --split');
  const isOneStream = split !== undefined && chunk === undefined && output === undefined;
  if (isOneStream && format === 'txt') {
    throw wrongUsage('chunks of txt go into files: give --output NAME, or --chunk');
  }
  if (isOneStream && !formats[format].holdsChunks) {
    throw wrongUsage(`a ${format} document holds one chunk: give --output NAME, or --chunk`);
  }
  checkAddressing(options);
}

function wordsOf(command: string): string[] {
  try {
    return commandWords(command);
  } catch (error) {
    throw error instanceof SweepbookError ? wrongUsage(`--events-${error.message}`) : error;
  }
}

/** The folder that is listed, or for want of exactly one a plain word. */
function nameOf(paths: readonly string[]): string {
  const [only = '', ...more] = paths;
  return more.length === 0 ? basename(resolve(only)) || 'files' : 'files';
}

function leftOutLine(why: string, paths: readonly string[]): string {
  const shown = paths.slice(0, 3).join(', ') + (paths.length > 3 ? ', …' : '');
  return `left out, ${why}: ${paths.length} (${shown})`;
}

/** Once for all of them; with --split it is the end. */
function tellUncounted(files: readonly KnownFile[], { format, split }: ListOptions): void {
  if (!formats[format].tells.events && split === undefined) return;
  const [first, ...more] = files.filter((file) => file.events === null);
  if (first === undefined) return;
  const line = `events are not known of ${more.length + 1} of ${counted(files.length, 'file')}, no ROOT files (${first.path}${more.length > 0 ? ', …' : ''})`;
  if (split !== undefined)
    throw wrongUsage(`--split: ${line}; name what counts them by --events-command`);
  complain(line);
}

/** What files of a format are called by, if it is not the format's own name. */
const endings: Partial<Record<ExportFormat, string>> = {
  rdataframe: 'json',
  coffea: 'json',
  metalink: 'meta4',
};

interface List {
  readonly files: readonly ExportFile[];
  readonly facts: ListFacts;
}

async function write(
  { output }: Here,
  { files, facts }: List,
  options: WriteOptions,
): Promise<void> {
  const { split, chunk, output: name, format } = options;
  const wanted = chunk === undefined ? files : chunkOf(files, chunk);
  if (name === undefined) {
    await writeOut(output, textOf(wanted, facts, options, chunk === undefined));
    return;
  }
  const isMany = split !== undefined && chunk === undefined;
  const lists = isMany ? chunksOf(wanted) : [wanted];
  const ending = endings[format] ?? format;
  const fileOf = (number: number) => (isMany ? numbered(name, number, ending) : name);
  const written = new WholeFiles();
  try {
    for (const [at, list] of lists.entries()) {
      const file = fileOf(at + 1);
      for (const text of textOf(list, facts, options, false)) await written.add(file, text);
      await written.end(file);
    }
    const names = await written.publish(isMany ? fileOf(lists.length + 1) : undefined);
    const shown = names.length === 1 ? names[0] : `${names[0]} to ${names.at(-1)}`;
    await output.say(`wrote ${shown} (${counted(wanted.length, 'file')})`);
  } finally {
    await written.discard();
  }
}

type WriteOptions = ListOptions & { readonly format: ExportFormat; readonly output?: string };

async function writeOut(output: Here['output'], lines: Iterable<string>): Promise<void> {
  let text = '';
  for (const line of lines) {
    text += line;
    if (text.length < 65_536) continue;
    await output.write(text);
    text = '';
  }
  await output.write(text);
}
