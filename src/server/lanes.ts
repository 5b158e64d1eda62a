interface Lane {
  /** What is under way weighs so much. */
  weight: number;
  readonly waiting: { readonly weight: number; readonly go: () => void }[];
}

/** Lets so much of one key be under way at once; the rest waits, the first one first. */
export class Lanes {
  private readonly busy = new Map<string, Lane>();

  constructor(private readonly most: number) {}

  /** Resolves when there is room for it, to what makes room again; what weighs too much waits until it is alone. */
  async enter(key: string, weight = 1): Promise<() => void> {
    const lane = this.busy.get(key) ?? { weight: 0, waiting: [] };
    this.busy.set(key, lane);
    const own = Math.min(weight, this.most);
    if (lane.waiting.length > 0 || lane.weight + own > this.most) {
      await new Promise<void>((resolve) => lane.waiting.push({ weight: own, go: resolve }));
    } else lane.weight += own;
    let isUnderWay = true;
    return () => {
      if (!isUnderWay) return;
      isUnderWay = false;
      this.leave(key, lane, own);
    };
  }

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const leave = await this.enter(key);
    try {
      return await work();
    } finally {
      leave();
    }
  }

  private leave(key: string, lane: Lane, weight: number): void {
    lane.weight -= weight;
    for (let [next] = lane.waiting; next; [next] = lane.waiting) {
      if (lane.weight + next.weight > this.most) break;
      lane.waiting.shift();
      lane.weight += next.weight;
      next.go();
    }
    if (lane.weight === 0) this.busy.delete(key);
  }
}
