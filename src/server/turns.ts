/** A turn that takes longer is a heavy one. */
const longMs = 5;

/**
 * Lets operations begin one by one, each in a turn of its own of the event loop, and payer after payer: whoever asks a
 * hundred things at once has nobody else wait for more than one of them. Whose turn was a heavy one has his next one
 * after as long a rest; the others go on.
 */
export class Turns {
  /** By payer, the next one first. */
  private readonly waiting = new Map<string, (() => void)[]>();
  /** Payers that rest, until then (performance.now()). */
  private readonly resting = new Map<string, number>();
  private isGoing = false;
  /** Set while all who wait are resting. */
  private pause: NodeJS.Timeout | undefined;

  /** Resolves when it is the turn of this payer. */
  next(key: string): Promise<void> {
    return new Promise((resolve) => {
      const queue = this.waiting.get(key) ?? [];
      queue.push(resolve);
      this.waiting.set(key, queue);
      if (!this.isGoing) this.go();
    });
  }

  private go(): void {
    clearTimeout(this.pause);
    this.isGoing = true;
    setImmediate(() => {
      const begun = performance.now();
      const key = this.whoseTurn(begun);
      if (key === undefined) {
        this.isGoing = false;
        this.goOnLater(begun);
        return;
      }
      const queue = this.waiting.get(key) ?? [];
      this.waiting.delete(key);
      queue.shift()?.();
      // Behind all others.
      if (queue.length > 0) this.waiting.set(key, queue);
      // By then it has done what it does without waiting for anything.
      setImmediate(() => {
        const now = performance.now();
        if (now - begun >= longMs) this.resting.set(key, now + (now - begun));
        this.go();
      });
    });
  }

  private whoseTurn(now: number): string | undefined {
    for (const [key, until] of this.resting) if (until <= now) this.resting.delete(key);
    for (const key of this.waiting.keys()) if (!this.resting.has(key)) return key;
    return undefined;
  }

  private goOnLater(now: number): void {
    if (this.waiting.size === 0) return;
    const soonest = Math.min(
      ...[...this.waiting.keys()].map((key) => this.resting.get(key) ?? now),
    );
    this.pause = setTimeout(() => this.go(), Math.max(1, soonest - now));
  }
}
