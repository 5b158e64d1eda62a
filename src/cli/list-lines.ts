import { messageOf } from '../errors.ts';
import type { ExportFormat } from '../formats/formats.ts';
import { CliError, exitCode } from './exit-codes.ts';

/** What a list says of itself at its end. */
export interface Summary {
  readonly files: number;
  readonly events: number | undefined;
  /** As BaBar's scripts look for it. */
  readonly selected: string | undefined;
}

/** A line of a list, and the chunk it belongs to; undefined = to all, or the list is not split. */
export interface ListLine {
  readonly text: string;
  readonly chunk: number | undefined;
}

/** Watches a list go by: which line belongs to which chunk, and whether the count at the end is right. */
export class ListReader {
  private readonly format: ExportFormat;
  private files = 0;
  private told: number | undefined;
  private chunk: number | undefined;
  private selected: string | undefined;
  private whole = '';

  constructor(format: ExportFormat) {
    this.format = format;
  }

  /** The line, or nothing when it is not part of what a job reads. */
  take(text: string): ListLine | undefined {
    switch (this.format) {
      case 'txt':
      case 'tcl':
        return this.takeCommented(text);
      case 'csv':
        return this.takeCsv(text);
      case 'jsonl':
        return this.takeJson(text);
      case 'rdataframe':
      case 'coffea':
      case 'runs':
        this.whole = (this.whole + text).slice(-200);
        return { text, chunk: undefined };
      case 'metalink':
        this.files += text.startsWith(' <file ') ? 1 : 0;
        this.told ??= numberIn(/^<!-- sweepbook: (\d+) files -->/, text);
        this.whole = text;
        return { text, chunk: undefined };
    }
  }

  private takeCommented(text: string): ListLine | undefined {
    const isTcl = this.format === 'tcl';
    this.chunk = numberIn(/^# chunk (\d+)$/, text) ?? this.chunk;
    this.told = numberIn(/^# sweepbook: (\d+) files/, text) ?? this.told;
    if (isTcl ? text.startsWith('lappend ') : !text.startsWith('# ')) this.files++;
    if (text.startsWith('# Selected ')) this.selected = text.slice(2);
    // A job takes each line of txt for a file.
    if (!isTcl && text.startsWith('# ')) return undefined;
    const isOfAll = this.told !== undefined || text.startsWith('# Selected ');
    return { text, chunk: isOfAll ? undefined : this.chunk };
  }

  private takeCsv(text: string): ListLine | undefined {
    this.told = numberIn(/^# sweepbook: (\d+) files/, text) ?? this.told;
    if (this.told !== undefined || /^(chunk,)?lfn,url,/.test(text))
      return { text, chunk: undefined };
    this.files++;
    return { text, chunk: numberIn(/^(\d+),/, text) };
  }

  private takeJson(text: string): ListLine | undefined {
    const count = numberIn(/^\{"count":(\d+)[,}]/, text);
    if (count === undefined) this.files++;
    else this.told = count;
    return { text, chunk: numberIn(/^\{"chunk":(\d+),/, text) };
  }

  /** Whether all has come; the reason why not otherwise. */
  missing(): string | undefined {
    if (this.format === 'runs') return this.whole.endsWith('}') ? undefined : 'its end is missing';
    if (this.format === 'rdataframe' || this.format === 'coffea') {
      return /"files":\d+\.0\}+$/.test(this.whole) ? undefined : 'its end is missing';
    }
    if (this.format === 'metalink' && this.whole !== '</metalink>') return 'its end is missing';
    if (this.told === this.files) return undefined;
    return `${this.files} of ${this.told ?? 'all'} files came`;
  }

  get summary(): Summary {
    const events = numberIn(/, (\d+)\/\d+ events/, this.selected ?? '');
    return { files: this.files, events, selected: this.selected };
  }
}

const numberIn = (pattern: RegExp, text: string): number | undefined => {
  const found = pattern.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
};

/** The lines of a list as they come; CliError (try again later) at its end when something is missing. */
export async function* linesOfList(
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  reader: ListReader,
  name: string,
  signal: AbortSignal,
): AsyncGenerator<ListLine, void, undefined> {
  let failure: string | undefined;
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const bytes of body) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const text of lines) {
        const line = reader.take(text);
        if (line) yield line;
      }
    }
    if (rest !== '') failure = 'it ends in the middle of a line';
  } catch (error) {
    if (error instanceof CliError) throw error;
    failure = messageOf(error);
  }
  signal.throwIfAborted();
  const why = failure ?? reader.missing();
  if (why === undefined) return;
  throw new CliError(
    exitCode.tryLater,
    `the list of ${name} was cut off (${why}): it is not complete, ask for it again`,
  );
}
