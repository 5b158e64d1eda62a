import { createReadStream } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import type { TarMember } from '../formats/tar-archive.ts';
import { addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { unreadable } from './source-files.ts';
import { humanBytes } from './table.ts';

/** What is done with an archive that lies here; no server is asked. */
export function addArchiveCommands(noun: Command): void {
  runs<object, [string]>(
    addVerb(noun, 'members <archive>', 'what is in a composite file that is a tar archive'),
    listMembers,
  );
  const extract = addVerb(
    noun,
    'extract <archive> <member>',
    'read one file of an archive back, by its place, and compare it with its SHA-256',
  ).option('--output <file>', 'into this file, which must not be there; else standard output');
  runs<{ output?: string }, [string, string]>(extract, extractMember);
}

/** From the index beside the archive; where that is missing or of another, the archive is read through. */
async function membersOf(archive: string): Promise<TarMember[]> {
  const { indexPath, readIndex, readTar } = await import('../formats/tar-archive.ts');
  const found = await stat(archive).catch((error: unknown) => {
    throw unreadable(archive, error);
  });
  const text = await readFile(indexPath(archive), 'utf8').catch(() => '');
  return readIndex(text, found.size) ?? (await readTar(archive));
}

async function listMembers({ output }: Context, _options: object, archive: string): Promise<void> {
  const members = await membersOf(archive);
  const each = (async function* () {
    yield* members;
  })();
  await output.list(each, [
    { title: 'SIZE', value: (member) => humanBytes(member.sizeBytes), align: 'right' },
    { title: 'OFFSET', value: (member) => member.offset, align: 'right' },
    { title: 'SHA-256', value: (member) => member.sha256 },
    { title: 'NAME', value: (member) => member.name },
  ]);
}

async function extractMember(
  { signal }: Context,
  options: { output?: string },
  archive: string,
  name: string,
): Promise<void> {
  const members = await membersOf(archive);
  const member = members.find((one) => one.name === name);
  if (!member) {
    throw new CliError(
      exitCode.notFound,
      `no ${name} in ${archive}: look at "publish members ${archive}"`,
    );
  }
  const { offset, sizeBytes, sha256 } = member;
  const source = createReadStream(archive, { start: offset, end: offset + sizeBytes - 1, signal });
  const hash = createHash('sha256');
  const temporary = options.output === undefined ? undefined : `${options.output}.part`;
  if (options.output !== undefined && (await stat(options.output).catch(() => undefined))) {
    throw new CliError(exitCode.failed, `${options.output} is there already`);
  }
  const file = temporary === undefined ? undefined : await open(temporary, 'w');
  try {
    for await (const part of source as AsyncIterable<Buffer>) {
      hash.update(part);
      if (file) await file.writeFile(part);
      else if (!process.stdout.write(part)) {
        await new Promise((resolve) => process.stdout.once('drain', resolve));
      }
    }
    await file?.sync();
  } finally {
    await file?.close();
  }
  if (hash.digest('hex') !== sha256) {
    if (temporary !== undefined) await rm(temporary, { force: true });
    throw new CliError(
      exitCode.failed,
      `${name} in ${archive} is not what its index says: the archive is damaged`,
    );
  }
  if (temporary !== undefined && options.output !== undefined) {
    await rename(temporary, options.output);
  }
}
