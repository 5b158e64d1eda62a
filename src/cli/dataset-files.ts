import { Option, type Command } from 'commander';
import { exportFormats, formats, type ExportFormat } from '../formats/formats.ts';
import type { Refusal } from './client.ts';
import { addVerb, runs, wholeNumber, type Context } from './command.ts';
import { exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import { linesOfList, ListReader } from './list-lines.ts';
import { complain } from './print.ts';
import { WholeFiles } from './whole-files.ts';

interface FilesOptions {
  readonly format: ExportFormat;
  readonly output?: string;
  readonly split?: number;
  readonly chunk?: number;
  readonly since?: string;
  readonly asOf?: string;
  readonly runs?: string;
  readonly good?: boolean;
  readonly tree?: string;
  readonly protocol?: string;
  readonly print0?: boolean;
  readonly json?: boolean;
}

/** `dataset files` and whatever else has a list of files at /export/<collection>/<name>/files. */
export function addFilesCommand(noun: Command, collection: string): void {
  const command = addVerb(noun, 'files <name>', 'the list of its files, as a job reads it')
    .addOption(
      new Option('--format <format>', 'txt = one access URL a line; --json is the same as jsonl')
        .choices(exportFormats)
        .default('txt'),
    )
    .option('--output <file>', 'write there, whole or not at all; with --split NAME-1, NAME-2, …')
    .option('--split <events>', 'cut into chunks of at most so many events', wholeNumber)
    .option('--chunk <number>', 'only this chunk', wholeNumber)
    .option('--runs <ranges>', 'files of these runs: 36172-39320,40001')
    .option('--good', 'files of runs with the verdict GOOD')
    .option('--since <moment>', 'files added after a time or the cursor of an event')
    .option('--as-of <moment>', 'files added until a time or the cursor of an event')
    .option('--tree <name>', 'the ROOT tree in the files, for rdataframe and coffea')
    .option(
      '--protocol <name>',
      'only copies that are on disk now, by root, https, http, file or s3; if one is not, none',
    )
    .option('--print0', 'txt: end each name with NUL, for xargs -0');
  runs<FilesOptions, [string]>(command, (context, options, name) =>
    writeFiles(
      context,
      { ...options, format: options.json ? 'jsonl' : options.format },
      {
        collection,
        name,
      },
    ),
  );
}

interface ListName {
  readonly collection: string;
  readonly name: string;
}

function demandFitting({ format, print0, split, chunk, output }: FilesOptions): void {
  if (print0 && format !== 'txt') throw wrongUsage('--print0 goes with --format txt');
  const isMany = split !== undefined && chunk === undefined;
  if (isMany && !formats[format].holdsChunks) {
    throw wrongUsage(`a ${format} document holds one chunk: ask for each with --chunk`);
  }
  if (isMany && format === 'txt' && output === undefined) {
    throw wrongUsage('chunks of txt go into files: give --output NAME, or --chunk');
  }
}

async function writeFiles(
  context: Context,
  options: FilesOptions,
  list: ListName,
): Promise<ExitCode> {
  demandFitting(options);
  const { client, output } = context;
  const { format } = options;
  const response = await client.fetch(pathOf(options, list));
  if (!response.ok) {
    const refusal = await client.json<Partial<Refusal>>(response);
    if (refusal.code === undefined) throw client.strange(response);
    throw client.refusal({ code: refusal.code, message: refusal.message ?? refusal.code });
  }
  const unavailable = response.headers.get('x-sweepbook-unavailable');
  if (unavailable !== null) {
    complain(`${unavailable} datasets of ${list.name} are bad now: their files are left out`);
  }
  const reader = new ListReader(format);
  const lines = linesOfList(response.body ?? [], reader, list.name, client.signal);
  const ending = options.print0 ? '\0' : '\n';
  if (options.output === undefined) {
    let chunk = '';
    try {
      for await (const { text } of lines) {
        chunk += text + ending;
        if (chunk.length < 65_536) continue;
        await output.write(chunk);
        chunk = '';
      }
    } finally {
      // What came is shown; that it is not all is said by the error.
      await output.write(chunk);
    }
    return exitCode.done;
  }
  const files = new WholeFiles();
  try {
    await toFiles(context, options, options.output, { files, lines, reader, ending });
  } finally {
    await files.discard();
  }
  return exitCode.done;
}

interface Writing {
  readonly files: WholeFiles;
  readonly lines: ReturnType<typeof linesOfList>;
  readonly reader: ListReader;
  readonly ending: string;
}

async function toFiles(
  { output }: Context,
  { format, split, chunk }: FilesOptions,
  name: string,
  { files, lines, reader, ending }: Writing,
): Promise<void> {
  const isMany = split !== undefined && chunk === undefined;
  const fileOf = (number: number) => (isMany ? numbered(name, number, format) : name);
  let head = '';
  let current = 0;
  for await (const line of lines) {
    if (!isMany) {
      current = 1;
      await files.add(name, line.text + ending);
    } else if (line.chunk === undefined) {
      // Before the first chunk: stands in each file. Behind the last one: counts of the whole list.
      if (current === 0) head += line.text + ending;
    } else {
      if (line.chunk !== current) {
        if (current > 0) await files.end(fileOf(current));
        current = line.chunk;
        await files.add(fileOf(current), head);
      }
      await files.add(fileOf(current), line.text + ending);
    }
  }
  // An empty list is a file too.
  if (current === 0) await files.add(fileOf(1), head);
  const published = await files.publish(isMany ? fileOf(Math.max(current, 1) + 1) : undefined);
  const { files: count, events, selected } = reader.summary;
  const what = events === undefined ? `${count} files` : `${events} events`;
  const shown = published.length === 1 ? published[0] : `${published[0]} to ${published.at(-1)}`;
  await output.say(`wrote ${shown}${format === 'runs' ? '' : ` (${what})`}`);
  if (selected !== undefined) await output.say(selected);
}

/** list.tcl → list-1.tcl; a name without an ending gets that of the format. */
export function numbered(name: string, number: number, format: string): string {
  const ending = `.${format}`;
  const stem = name.endsWith(ending) ? name.slice(0, -ending.length) : name;
  return `${stem}-${number}${ending}`;
}

function pathOf(options: FilesOptions, { collection, name }: ListName): string {
  const { format, split, chunk, runs: ranges, good, since, asOf, tree, protocol } = options;
  const query = new URLSearchParams({ format });
  const given = { split, chunk, runs: ranges, since, asOf, tree, protocol };
  for (const [field, value] of Object.entries(given)) {
    if (value !== undefined) query.set(field, String(value));
  }
  if (good) query.set('goodRuns', 'true');
  return `/export/${collection}/${encodeURIComponent(name)}/files?${query}`;
}
