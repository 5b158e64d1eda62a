import { Presets, SingleBar, type Options, type Params } from 'cli-progress';
import { setBarClearing } from './print.ts';
import { humanBytes } from './table.ts';
import { visible } from './visible.ts';

/** Bytes done of all, as one line on stderr; nothing where stderr is no terminal. */
export interface Progress {
  /** Bytes done so far, and what is being done now. */
  update(doneBytes: number, now: string): void;
  stop(): void;
}

const silent: Progress = { update: () => undefined, stop: () => undefined };

/** Starts a bar. `verb`: what happens to the bytes, as "hashing". */
export function startProgress(verb: string, totalBytes: number): Progress {
  const { stderr } = process;
  if (!stderr.isTTY) return silent;
  const startedAt = Date.now();
  const bar = new SingleBar(
    {
      stream: stderr,
      clearOnComplete: true,
      forceRedraw: true,
      linewrap: false,
      fps: 5,
      format: (options, params, payload: { now?: string }) =>
        line(verb, options, params, payload.now ?? '', startedAt),
    },
    Presets.legacy,
  );
  bar.start(totalBytes, 0, { now: '' });
  // What is printed between two redraws takes the bar's line; the next redraw comes by itself.
  setBarClearing(() => stderr.write('\r\u001b[K'));
  return {
    update: (doneBytes, now) => bar.update(Math.min(doneBytes, totalBytes), { now }),
    stop: () => {
      setBarClearing(() => undefined);
      bar.stop();
    },
  };
}

const barWidth = 24;

function line(
  verb: string,
  _options: Options,
  params: Params,
  now: string,
  startedAt: number,
): string {
  const filled = Math.round(Math.min(1, params.progress) * barWidth);
  const seconds = (Date.now() - startedAt) / 1000;
  const speed = seconds > 0.5 ? `  ${humanBytes(params.value / seconds)}/s` : '';
  const head = `${verb} [${'#'.repeat(filled)}${'-'.repeat(barWidth - filled)}]`;
  const counts = `${humanBytes(params.value)} of ${humanBytes(params.total)}${speed}`;
  const text = `${head} ${counts}  ${visible(now)}`;
  return text.slice(0, Math.max(20, (process.stderr.columns || 80) - 1));
}
