import DataLoader from 'dataloader';
import type { AuditTrail } from '../access/audit-trail.ts';
import type { Identity } from '../access/identity.ts';
import type { Viewer } from '../access/policy.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import type { EventFeed } from '../events/event-feed.ts';
import type { Signer } from '../storage/ed25519.ts';
import type { ImportSettings } from '../storage/import-sources.ts';
import type { OpenStores } from '../storage/open.ts';
import type { PublishSettings } from '../storage/publish-settings.ts';
import type { ProgressFeed } from './progress-feed.ts';

/** What the server has for all requests. */
export interface Means {
  readonly db: Db;
  /** Who shows which token. */
  readonly identity: Identity;
  readonly trail: AuditTrail;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly feed: EventFeed;
  readonly progress: ProgressFeed;
  /** Of the database; part of every event cursor. */
  readonly epoch: string;
  /** Name of this site: where files are that say nothing else. */
  readonly site: string;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  /** What webhooks are signed with and how far they may reach. */
  readonly webhooks: {
    readonly key: { readonly id: string; readonly bytes: Buffer };
    readonly isPrivateAllowed: boolean;
    readonly timeoutMs: number;
  };
  /** Where imports come from and go to; undefined = this server imports nothing. */
  readonly imports: ImportSettings | undefined;
  /** What users may publish, and how it is merged; undefined = nothing can be published. */
  readonly publish: PublishSettings | undefined;
  /** What manifests are signed with, if they are. */
  readonly signer: Signer | undefined;
  /** So many jobs that cannot read a copy have it checked. */
  readonly suspicionJobs: number;
  /** Something was committed: whoever follows looks now. */
  ring(): void;
}

/** What pays for an operation. */
export interface Purse {
  /** For one that may answer with so many fields; throws RATE_LIMITED. */
  pay(fields: number): void;
  /** For one that is refused because it is beyond its limits. */
  fine(): void;
  /** Waits until it may begin, after it was paid for; what comes back is to be called when it has ended. */
  begin(): Promise<() => void>;
}

export const free: Purse = {
  pay: () => undefined,
  fine: () => undefined,
  begin: async () => () => undefined,
};

type Batch<K, V> = (context: Context, keys: readonly K[]) => Promise<readonly V[]>;

/** One request: who asks, and with what it is answered. */
export class Context {
  readonly means: Means;
  readonly viewer: Viewer;
  readonly requestId: string;
  /** Where it came from; undefined = nobody knows any more. */
  readonly address: string | undefined;
  readonly purse: Purse;
  private readonly loaders = new Map<unknown, DataLoader<unknown, unknown>>();

  constructor(
    means: Means,
    viewer: Viewer,
    requestId: string,
    address?: string,
    purse: Purse = free,
  ) {
    this.means = means;
    this.viewer = viewer;
    this.requestId = requestId;
    this.address = address;
    this.purse = purse;
  }

  /** A handle for one read: no identity map, nothing remembered. */
  get db(): Db {
    return this.means.db;
  }

  /**
   * Loads by key, all keys of one level of the query at once. Nothing is cached: a mutation or
   * an event must be followed by a fresh look. `batch` must be the same function each time.
   */
  load<K, V>(batch: Batch<K, V>, key: K): Promise<V> {
    let loader = this.loaders.get(batch) as DataLoader<K, V> | undefined;
    if (!loader) {
      loader = new DataLoader<K, V>((keys) => this.eachOnce(batch, keys), {
        cache: false,
        maxBatchSize: 1000,
      });
      this.loaders.set(batch, loader);
    }
    return loader.load(key);
  }

  /** What stands in an answer twice is asked for once: a statement that gets a key twice may answer twice as much. */
  private async eachOnce<K, V>(batch: Batch<K, V>, keys: readonly K[]): Promise<V[]> {
    const unique = [...new Set(keys)];
    const values = await batch(this, unique);
    const places = new Map(unique.map((key, index) => [key, index]));
    return keys.map((key) => values[places.get(key) ?? 0] as V);
  }
}

/** Rows in the order of the keys; undefined where there is none (or none to see). */
export function inOrder<K, V>(
  keys: readonly K[],
  found: readonly V[],
  keyOf: (row: V) => K,
): (V | undefined)[] {
  const byKey = new Map(found.map((row) => [keyOf(row), row]));
  return keys.map((key) => byKey.get(key));
}
