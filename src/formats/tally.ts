import { Luminosity, type ExportFile, type ListTotals } from './list.ts';

/** Cuts a list into chunks of at most so many events; no file is cut, so a larger one is a chunk of its own. */
export class Splitter {
  private readonly most: number;
  private events = 0;
  chunk = 0;

  constructor(most: number) {
    this.most = most;
  }

  chunkOf({ lfn, eventCount }: ExportFile): number {
    if (eventCount === null) throw new Error(`${lfn} has no event count`);
    if (this.chunk === 0 || this.events + eventCount > this.most) {
      this.chunk++;
      this.events = 0;
    }
    this.events += eventCount;
    return this.chunk;
  }
}

/** What has been written of a list so far. */
export class Tally {
  files = 0;
  events = 0;
  chunks: number | undefined;
  readonly luminosity = new Luminosity();

  add(file: ExportFile): void {
    this.files++;
    this.events += file.eventCount ?? 0;
    if (file.runFacts) this.luminosity.add(file.runFacts);
  }

  get totals(): ListTotals {
    const { files, events, chunks, luminosity } = this;
    return { files, events, chunks, luminosity: luminosity.value };
  }
}
