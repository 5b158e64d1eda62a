import type { Command } from 'commander';
import type { Refusal } from './client.ts';
import { addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { counted } from './table.ts';
import { WholeFiles } from './whole-files.ts';

interface ExportOptions {
  readonly output?: string;
}

export function addExportCommand(program: Command): void {
  const command = addVerb(
    program,
    'export <dataset>',
    'the manifest of a closed dataset, for another site to import',
  ).option('--output <file>', 'write there, whole or not at all; packed as .gz or .zst');
  runs<ExportOptions, [string]>(command, exportDataset);
}

/** The last line tells whether all came: a manifest without it is none. */
async function* linesOf(body: AsyncIterable<Uint8Array>, context: Context): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  let last = '';
  try {
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (lines.length > 0) last = lines.at(-1) ?? '';
      yield lines.map((line) => `${line}\n`).join('');
    }
  } catch (error) {
    throw context.client.noAnswer(error);
  }
  if (rest === '' && last.startsWith('{"end":')) return;
  throw new CliError(
    exitCode.tryLater,
    'the manifest was cut off: the dataset has changed meanwhile, or the connection was lost; export it again',
  );
}

async function exportDataset(
  context: Context,
  options: ExportOptions,
  dataset: string,
): Promise<void> {
  const { client, output } = context;
  const response = await client.fetch(`/export/datasets/${encodeURIComponent(dataset)}/manifest`);
  if (!response.ok || !response.body) {
    const refusal = await client.json<Partial<Refusal>>(response);
    if (refusal.code === undefined) throw client.strange(response);
    throw client.refusal({ code: refusal.code, message: refusal.message ?? refusal.code });
  }
  const lines = linesOf(response.body, context);
  if (options.output === undefined) {
    for await (const text of lines) await output.write(text);
    return;
  }
  const files = new WholeFiles();
  try {
    for await (const text of lines) await files.add(options.output, text);
    await files.publish();
  } finally {
    await files.discard();
  }
  const count = Number(response.headers.get('x-sweepbook-count'));
  await output.result(
    { dataset, manifest: options.output, fileCount: count },
    `wrote ${options.output} (${counted(count, 'file')})`,
  );
}
