import type { BenchCluster, Size } from './data.ts';
import type { Report } from './report.ts';

export interface BenchOptions {
  readonly size: Size;
  readonly seconds: number;
  readonly rounds: number;
}

/** One measurement: what it found, as a table. */
export type Bench = (means: { cluster: BenchCluster; options: BenchOptions }) => Promise<Report>;
