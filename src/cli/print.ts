import { once } from 'node:events';
import { systemCode } from '../errors.ts';
import { renderTable, type Column } from './table.ts';
import { visible, visibleJson } from '../text.ts';

/** One line on stderr, in the form all of ours have. */
export function complain(message: string): void {
  clearBar();
  process.stderr.write(`sweepbook: ${visible(message)}\n`);
}

let clearBar = (): void => undefined;

/** A progress bar tells how its line is cleared before another one is written. */
export function setBarClearing(clear: () => void): void {
  clearBar = clear;
}

/** Where a command's results go: lines for people, or JSON lines. */
export class Output {
  readonly json: boolean;
  #readerIsGone = false;
  #outlivesReader = false;

  constructor(json: boolean) {
    this.json = json;
    process.stdout.on('error', (error: unknown) => {
      if (systemCode(error) !== 'EPIPE') throw error;
      this.#readerIsGone = true;
      if (!this.#outlivesReader) process.exit(0);
    });
  }

  /** The work is more than its output: go on when nobody reads it any more, for the exit code. */
  outliveReader(): void {
    this.#outlivesReader = true;
  }

  /** A line for people; nothing with --json. */
  async say(text: string): Promise<void> {
    if (!this.json) await this.write(`${visible(text)}\n`);
  }

  /** A result: a JSON line with --json, else its line for people. */
  async result(value: unknown, text: string): Promise<void> {
    await this.write(this.json ? `${visibleJson(value)}\n` : `${visible(text)}\n`);
  }

  /** A single object: a JSON line, or its facts one below the other (undefined and null left out). */
  async object(
    value: unknown,
    facts: Readonly<Record<string, string | null | undefined>>,
  ): Promise<void> {
    if (this.json) return this.write(`${visibleJson(value)}\n`);
    const shown = Object.entries(facts).filter(([, text]) => text != null && text !== '');
    const width = Math.max(0, ...shown.map(([name]) => name.length));
    const lines = shown.map(([name, text]) => `${name.padEnd(width)}  ${visible(text ?? '')}\n`);
    await this.write(lines.join(''));
  }

  /** A list: JSON lines (`[]` when there is nothing), or a table. */
  async list<Row>(
    rows: AsyncIterable<Row> | Iterable<Row>,
    columns: readonly Column<Row>[],
  ): Promise<void> {
    if (!this.json) {
      const all: Row[] = [];
      for await (const row of rows) all.push(row);
      return this.write(renderTable(all, columns));
    }
    let isEmpty = true;
    for await (const row of rows) {
      isEmpty = false;
      await this.write(`${visibleJson(row)}\n`);
    }
    if (isEmpty) await this.write('[]\n');
  }

  /** Bytes as they are; waits while the reader is slow. */
  async write(chunk: string | Uint8Array): Promise<void> {
    if (this.#readerIsGone) return;
    clearBar();
    if (process.stdout.write(chunk)) return;
    const settled = new AbortController();
    const { signal } = settled;
    await Promise.race([
      once(process.stdout, 'drain', { signal }),
      once(process.stdout, 'close', { signal }),
    ]).catch((error: unknown) => {
      if (systemCode(error) !== 'EPIPE') throw error;
    });
    settled.abort();
  }
}

/** Waits until what was written has left the process. */
export async function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return;
  await new Promise<void>((resolve) => {
    stream.write('', () => resolve());
  });
}
