/** Lets so many of one key work at once; the others wait, the first one first. */
export class Lanes {
  private readonly busy = new Map<string, { working: number; readonly waiting: (() => void)[] }>();

  constructor(private readonly most: number) {}

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const lane = this.busy.get(key) ?? { working: 0, waiting: [] };
    this.busy.set(key, lane);
    if (lane.working < this.most) lane.working++;
    else await new Promise<void>((resolve) => lane.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = lane.waiting.shift();
      if (next) next();
      else if (--lane.working === 0) this.busy.delete(key);
    }
  }
}
