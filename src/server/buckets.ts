/** So many are remembered; who asked longest ago is forgotten first, and begins with a full bucket again. */
const mostKeys = 50_000;

interface Bucket {
  points: number;
  /** By performance.now(): when the points were counted. */
  at: number;
}

/** Token buckets by key: so many points at once, and so many each second. */
export class Buckets {
  private readonly buckets = new Map<string, Bucket>();

  /** `perSecond` 0 = no limit. */
  constructor(
    private readonly perSecond: number,
    private readonly burst: number,
    private readonly clock: () => number = () => performance.now(),
  ) {}

  /** Takes points; when they are not there, takes none and says in how many seconds they are. */
  take(key: string, points: number): number {
    if (this.perSecond === 0) return 0;
    const bucket = this.filled(key);
    // What costs more than ever fits is paid with all there can be.
    const wanted = Math.min(points, this.burst);
    if (bucket.points < wanted) return (wanted - bucket.points) / this.perSecond;
    bucket.points -= wanted;
    return 0;
  }

  /** Takes as many of the points as there are. */
  drain(key: string, points: number): void {
    if (this.perSecond === 0) return;
    const bucket = this.filled(key);
    bucket.points = Math.max(0, bucket.points - points);
  }

  /** Gives back what was taken and not used. */
  give(key: string, points: number): void {
    if (this.perSecond === 0) return;
    const bucket = this.filled(key);
    bucket.points = Math.min(this.burst, bucket.points + points);
  }

  private filled(key: string): Bucket {
    const now = this.clock();
    const bucket = this.buckets.get(key) ?? { points: this.burst, at: now };
    bucket.points = Math.min(
      this.burst,
      bucket.points + ((now - bucket.at) / 1000) * this.perSecond,
    );
    bucket.at = now;
    this.buckets.delete(key);
    this.buckets.set(key, bucket);
    if (this.buckets.size > mostKeys) {
      const [oldest] = this.buckets.keys();
      if (oldest !== undefined) this.buckets.delete(oldest);
    }
    return bucket;
  }
}
