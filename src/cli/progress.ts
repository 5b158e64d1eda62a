import { setBarClearing } from './print.ts';
import { humanBytes } from './table.ts';
import { visible } from '../text.ts';

/** Bytes done of all, as one line on stderr; nothing where stderr is no terminal. */
export interface Progress {
  /** Bytes done so far, and what is being done now. */
  update(doneBytes: number, now: string): void;
  stop(): void;
}

const silent: Progress = { update: () => undefined, stop: () => undefined };
const redrawMs = 200;
/** To the start of the line, and empty it: all that a bar does to the terminal, so that lines between stay. */
const emptyLine = '\r\u001b[K';

/** Starts a bar. `verb`: what happens to the bytes, as "hashing". */
export function startProgress(verb: string, totalBytes: number): Progress {
  const { stderr } = process;
  if (!stderr.isTTY) return silent;
  const startedAt = Date.now();
  let done = 0;
  let what = '';
  const draw = () =>
    stderr.write(emptyLine + barLine(verb, done, totalBytes, what, Date.now() - startedAt));
  const clear = () => void stderr.write(emptyLine);
  draw();
  const timer = setInterval(draw, redrawMs);
  // What is printed between two redraws takes the bar's line; the next redraw comes by itself.
  setBarClearing(clear);
  return {
    update: (doneBytes, now) => {
      done = Math.min(doneBytes, totalBytes);
      what = now;
    },
    stop: () => {
      clearInterval(timer);
      setBarClearing(() => undefined);
      clear();
    },
  };
}

/** Things done of all, as one line on stderr; nothing where stderr is no terminal. */
export interface Counter {
  update(done: number, total: number, now: string): void;
  stop(): void;
}

/** Starts a bar that counts. `verb`: what happens, as "recovering"; `things`: to what. */
export function startCounter(verb: string, things: string): Counter {
  const { stderr } = process;
  if (!stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  let line = '';
  const draw = () => stderr.write(emptyLine + line);
  const clear = () => void stderr.write(emptyLine);
  const timer = setInterval(draw, redrawMs);
  setBarClearing(clear);
  return {
    update: (done, total, now) => {
      const numbers = `${done} of ${total} ${things}`;
      line = lineOf(verb, share(done, total), { numbers, longest: numbers.length, now });
    },
    stop: () => {
      clearInterval(timer);
      setBarClearing(() => undefined);
      clear();
    },
  };
}

const widestBar = 24;
const narrowestBar = 6;

const share = (done: number, total: number): number => (total === 0 ? 1 : done / total);

function barLine(verb: string, done: number, total: number, now: string, ms: number): string {
  const speed = ms > 500 ? `  ${humanBytes(done / (ms / 1000))}/s` : '';
  const numbers = `${humanBytes(done)} of ${humanBytes(total)}${speed}`;
  return lineOf(verb, share(done, total), {
    numbers,
    longest: '100 kB of 100 MB  100 MB/s'.length,
    now,
  });
}

/** As wide as the terminal: the numbers first, then the bar, then what is being done. `longest`: numbers will be. */
function lineOf(
  verb: string,
  part: number,
  { numbers, longest, now }: { numbers: string; longest: number; now: string },
): string {
  const columns = Math.max(20, (process.stderr.columns || 80) - 1);
  const width = Math.min(widestBar, columns - `${verb} [] `.length - longest);
  const filled = Math.round(part * width);
  const bar = width < narrowestBar ? '' : ` [${'#'.repeat(filled)}${'-'.repeat(width - filled)}]`;
  return `${verb}${bar} ${numbers}  ${visible(now)}`.trimEnd().slice(0, columns);
}
