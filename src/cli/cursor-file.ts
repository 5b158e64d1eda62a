import { readFile, rename, writeFile } from 'node:fs/promises';
import { messageOf, systemCode } from '../errors.ts';
import { CliError, exitCode } from './exit-codes.ts';

const cursorOption = '--cursor-file';

/** The cursor that a file keeps; undefined when there is no file yet. */
export async function readCursor(
  file: string | undefined,
  option = cursorOption,
): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return (await readFile(file, 'utf8')).trim() || undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw new CliError(exitCode.failed, `${option} ${file}: ${messageOf(error)}`);
  }
}

/** All or nothing: whoever reads it finds one whole cursor. */
export async function writeCursor(
  file: string | undefined,
  cursor: string,
  option = cursorOption,
): Promise<void> {
  if (file === undefined) return;
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, `${cursor}\n`, { flush: true });
    await rename(temporary, file);
  } catch (error) {
    throw new CliError(exitCode.failed, `${option} ${file}: ${messageOf(error)}`);
  }
}
