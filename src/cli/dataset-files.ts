import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { Option, type Command } from 'commander';
import { messageOf } from '../errors.ts';
import type { Refusal } from './client.ts';
import { addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode, type ExitCode } from './exit-codes.ts';

type Format = 'txt' | 'jsonl' | 'csv';

interface FilesOptions {
  readonly format: Format;
  readonly output?: string;
  readonly json?: boolean;
}

export function addFilesCommand(noun: Command): void {
  const command = addVerb(noun, 'files <name>', 'the list of its files, as a job reads it')
    .addOption(
      new Option('--format <format>', 'txt = one access URL a line; --json is the same as jsonl')
        .choices(['txt', 'jsonl', 'csv'])
        .default('txt'),
    )
    .option('--output <file>', 'write there, whole or not at all');
  runs<FilesOptions, [string]>(command, writeFiles);
}

async function writeFiles(
  context: Context,
  options: FilesOptions,
  name: string,
): Promise<ExitCode> {
  const { client, output } = context;
  const format = options.json ? 'jsonl' : options.format;
  const path = `/export/datasets/${encodeURIComponent(name)}/files?format=${format}`;
  const response = await client.fetch(path);
  if (!response.ok) {
    const refusal = await client.json<Partial<Refusal>>(response);
    if (refusal.code === undefined) throw client.strange(response);
    throw client.refusal({ code: refusal.code, message: refusal.message ?? refusal.code });
  }
  const lines = checkedLines(context, response, name, format);
  if (options.output === undefined) {
    for await (const chunk of inChunks(lines)) await output.write(chunk);
  } else {
    await writeWhole(options.output, inChunks(lines));
  }
  return exitCode.done;
}

const headerLines: Readonly<Record<Format, number>> = { txt: 0, jsonl: 0, csv: 1 };

/** The lines of the list; throws at the end when the server's count is missing or another one. */
async function* checkedLines(
  { client }: Context,
  response: Response,
  name: string,
  format: Format,
): AsyncGenerator<string, void, undefined> {
  let failure: unknown;
  let held: string | undefined;
  let count = -headerLines[format];
  try {
    for await (const line of linesOf(response)) {
      if (held !== undefined) {
        count++;
        yield held;
      }
      held = line;
    }
  } catch (error) {
    failure = error;
  }
  client.signal.throwIfAborted();
  const told = held === undefined ? undefined : countIn(held, format);
  if (failure !== undefined || told === undefined || told !== count) {
    const why =
      failure === undefined ? `${count} of ${told ?? 'all'} files came` : messageOf(failure);
    throw new CliError(
      exitCode.failed,
      `the list of ${name} was cut off (${why}): it is not complete, ask for it again`,
    );
  }
  // A job takes each line of txt for a file.
  if (held !== undefined && format !== 'txt') yield held;
}

async function* linesOf(response: Response): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of response.body ?? []) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  rest += decoder.decode();
  if (rest !== '') yield rest;
}

/** The number in the last line, which says that nothing is missing. */
function countIn(line: string, format: Format): number | undefined {
  if (format !== 'jsonl') {
    const told = /^# sweepbook: (\d+) files?$/.exec(line)?.[1];
    return told === undefined ? undefined : Number(told);
  }
  try {
    const last = JSON.parse(line) as { count?: unknown } | null;
    return typeof last?.count === 'number' ? last.count : undefined;
  } catch {
    return undefined;
  }
}

const chunkLength = 65_536;

async function* inChunks(lines: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let chunk = '';
  try {
    for await (const line of lines) {
      chunk += `${line}\n`;
      if (chunk.length < chunkLength) continue;
      yield chunk;
      chunk = '';
    }
  } catch (error) {
    // What came is shown; that it is not all is said by the error.
    if (chunk !== '') yield chunk;
    throw error;
  }
  if (chunk !== '') yield chunk;
}

/** Writes beside the file and renames at the end, so that a job never reads half a list. */
async function writeWhole(file: string, chunks: AsyncIterable<string>): Promise<void> {
  const temporary = `${file}.${process.pid}.part`;
  try {
    const target = createWriteStream(temporary, { flags: 'wx', flush: true });
    const written = finished(target);
    // Looked at below; a failure meanwhile must not count as unhandled.
    written.catch(() => undefined);
    for await (const chunk of chunks) {
      if (!target.write(chunk)) await Promise.race([once(target, 'drain'), written]);
    }
    target.end();
    await written;
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (error instanceof CliError) throw error;
    throw new CliError(exitCode.failed, `${file} cannot be written: ${messageOf(error)}`);
  }
}
