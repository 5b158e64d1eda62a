import { createWriteStream, existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { messageOf } from '../errors.ts';
import { CliError, exitCode } from './exit-codes.ts';

interface Part {
  readonly file: string;
  readonly temporary: string;
  readonly target: Writable;
  readonly written: Promise<void>;
  text: string;
}

const chunkLength = 65_536;

/** A name that says so holds what is packed. */
function packerOf(file: string): (Writable & NodeJS.ReadableStream) | undefined {
  if (file.endsWith('.gz')) return createGzip();
  return file.endsWith('.zst') ? createZstdCompress() : undefined;
}

/** Files that appear together when all of them are complete, so that a job never reads half a list. */
export class WholeFiles {
  private readonly parts = new Map<string, Part>();

  /** Adds a line to a file, which is begun when it is new. */
  async add(file: string, text: string): Promise<void> {
    const part = this.parts.get(file) ?? this.begin(file);
    part.text += text;
    if (part.text.length > chunkLength) await this.flush(part);
  }

  private begin(file: string): Part {
    const temporary = `${file}.${process.pid}.part`;
    const onDisk = createWriteStream(temporary, { flags: 'wx', flush: true });
    const packer = packerOf(file);
    const target = packer ?? onDisk;
    const written = packer ? pipeline(packer, onDisk) : finished(onDisk);
    // Looked at when it is closed; a failure meanwhile must not count as unhandled.
    written.catch(() => undefined);
    const part = { file, temporary, target, written, text: '' };
    this.parts.set(file, part);
    return part;
  }

  private async flush(part: Part): Promise<void> {
    const { text, target, written, file } = part;
    part.text = '';
    try {
      if (!target.write(text)) await Promise.race([once(target, 'drain'), written]);
    } catch (error) {
      throw cannotWrite(file, error);
    }
  }

  /** Ends the writing of a file that nothing more comes for: a list can have very many. */
  async end(file: string): Promise<void> {
    const part = this.parts.get(file);
    if (!part || part.target.writableEnded) return;
    await this.flush(part);
    part.target.end();
    await part.written.catch((error: unknown) => {
      throw cannotWrite(file, error);
    });
  }

  /** Gives all their names; `obstacle` is a file that must not be there. */
  async publish(obstacle?: string): Promise<string[]> {
    const files = [...this.parts.keys()];
    for (const file of files) await this.end(file);
    if (obstacle !== undefined && existsSync(obstacle)) {
      throw new CliError(
        exitCode.failed,
        `${obstacle} of an earlier list is in the way, and jobs would read it too: remove it first`,
      );
    }
    for (const { file, temporary } of this.parts.values()) {
      await rename(temporary, file).catch((error: unknown) => {
        throw cannotWrite(file, error);
      });
    }
    return files;
  }

  /** Leaves nothing behind of what has not been published. */
  async discard(): Promise<void> {
    for (const { temporary, target } of this.parts.values()) {
      target.destroy();
      await rm(temporary, { force: true }).catch(() => undefined);
    }
  }
}

const cannotWrite = (file: string, error: unknown) =>
  error instanceof CliError
    ? error
    : new CliError(exitCode.failed, `${file} cannot be written: ${messageOf(error)}`);
