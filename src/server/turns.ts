/** A turn that takes longer is a heavy one. */
const longMs = 5;

/**
 * Lets operations begin one by one, each in a turn of its own of the event loop, and payer after payer: whoever asks a
 * hundred things at once has nobody else wait for more than one of them.
 */
export class Turns {
  /** By payer, the next one first. */
  private readonly waiting = new Map<string, (() => void)[]>();
  private isGoing = false;

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
    this.isGoing = true;
    setImmediate(() => {
      const begun = performance.now();
      for (const [key, queue] of this.waiting) {
        this.waiting.delete(key);
        queue.shift()?.();
        if (queue.length > 0) this.waiting.set(key, queue);
        break;
      }
      // By then it has done what it does without waiting for anything.
      setImmediate(() => this.goOn(performance.now() - begun));
    });
  }

  /** After a long turn the loop is left to others for as long. */
  private goOn(lastMs: number): void {
    if (this.waiting.size === 0) this.isGoing = false;
    else if (lastMs < longMs) this.go();
    else setTimeout(() => this.go(), lastMs);
  }
}
