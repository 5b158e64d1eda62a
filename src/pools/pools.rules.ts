import { badInput, SweepbookError } from '../errors.ts';
import type { Step } from '../events/events.rules.ts';

export const poolCopyStatuses = [
  'REQUESTED',
  'RECALLING',
  'COPYING',
  'ONLINE',
  'EVICTING',
  'EVICTED',
  'LOST',
  'FAILED',
  'CANCELLED',
] as const;
export type PoolCopyStatus = (typeof poolCopyStatuses)[number];

const askedAgain = { to: 'REQUESTED', name: 'stage again', when: 'somebody asks for it' } as const;
const nobody = { to: 'CANCELLED', name: 'release', when: 'nobody wants it any more' } as const;
const failed = {
  to: 'FAILED',
  name: 'fail',
  when: 'the last attempt failed; the reason is kept',
} as const;

/** The life of a copy in a pool; the trigger pool_copies_guard holds it. */
export const poolCopySteps: readonly Step<PoolCopyStatus>[] = [
  { from: '', to: 'REQUESTED', name: 'stage', when: 'somebody who sees the file asks for it' },
  {
    from: 'REQUESTED',
    to: 'RECALLING',
    name: 'recall',
    when: 'its store was asked to bring it from tape',
  },
  {
    from: 'RECALLING',
    to: 'REQUESTED',
    name: 'recalled',
    when: 'the store says that it is on its disk; or has forgotten that it was asked',
  },
  {
    from: 'REQUESTED',
    to: 'COPYING',
    name: 'claim',
    when: 'a worker that reaches the pool has a place at the store, and the pool has room',
  },
  {
    from: 'COPYING',
    to: 'ONLINE',
    name: 'finish',
    when: 'size and checksums, read back from the pool, are the registered ones',
  },
  { from: 'COPYING', to: 'REQUESTED', name: 'try again', when: 'an attempt failed' },
  { from: 'REQUESTED', ...failed },
  { from: 'RECALLING', ...failed },
  { from: 'COPYING', ...failed },
  { from: 'REQUESTED', ...nobody },
  { from: 'RECALLING', ...nobody },
  {
    from: 'ONLINE',
    to: 'EVICTING',
    name: 'evict',
    when: 'the room is needed, no pin holds it, and a mass store has a CONFIRMED copy',
  },
  { from: 'EVICTING', to: 'EVICTED', name: 'remove', when: 'it is gone from the pool' },
  { from: 'ONLINE', to: 'LOST', name: 'lose', when: 'an incident is reported' },
  {
    from: 'LOST',
    to: 'ONLINE',
    name: 'restore',
    when: 'it was recovered in place, or its incident undone',
  },
  { from: 'LOST', ...askedAgain },
  { from: 'EVICTED', ...askedAgain },
  { from: 'FAILED', ...askedAgain },
  { from: 'CANCELLED', ...askedAgain },
];

/** In the spirit of the WLCG tape REST API, asked of what a job of this site can open. */
export const localities = [
  'ONLINE',
  'NEARLINE',
  'ONLINE_AND_NEARLINE',
  'LOST',
  'NONE',
  'UNAVAILABLE',
] as const;
export type Locality = (typeof localities)[number];

/** What is known of the copies of a file. */
export interface Whereabouts {
  /** In a pool, or confirmed in a store without tape. */
  readonly isOnline: boolean;
  /** Confirmed in a store with tape. */
  readonly isNearline: boolean;
  /** Confirmed in a store that is configured no more, or on a disk of production. */
  readonly isElsewhere: boolean;
  /** There was a copy once. */
  readonly wasThere: boolean;
}

export function localityOf(found: Whereabouts): Locality {
  if (found.isOnline) return found.isNearline ? 'ONLINE_AND_NEARLINE' : 'ONLINE';
  if (found.isNearline) return 'NEARLINE';
  if (found.isElsewhere) return 'UNAVAILABLE';
  return found.wasThere ? 'LOST' : 'NONE';
}

export const accessProtocols = ['root', 'https', 'http', 'file', 's3'] as const;
export type AccessProtocol = (typeof accessProtocols)[number];

/** The protocol of an access URL; a path is a file. undefined = another one. */
export function protocolOf(url: string): AccessProtocol | undefined {
  if (url.startsWith('/')) return 'file';
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme === 'xroot') return 'root';
  return accessProtocols.find((known) => known === scheme);
}

/** The URL of a path below a pool: {path} stands for it, or it comes at the end. XRootD takes names as they are. */
export function poolUrl(template: string, protocol: string, path: string): string {
  const below = path.replace(/^\/+/, '');
  const told = protocol === 'root' ? below : below.split('/').map(encodeURIComponent).join('/');
  if (template.includes('{path}')) return template.replace('{path}', () => told);
  return `${template.replace(/\/+$/, '')}/${told}`;
}

/** How long a pin lasts, in seconds; BAD_USER_INPUT beyond what the pool gives. */
export function pinSeconds(
  asked: number | null | undefined,
  pool: { readonly name: string; readonly pinSeconds: number; readonly mostPinSeconds: number },
): number {
  const seconds = asked ?? pool.pinSeconds;
  if (Number.isSafeInteger(seconds) && seconds >= 60 && seconds <= pool.mostPinSeconds)
    return seconds;
  throw badInput(
    'pinSeconds',
    seconds,
    `pool ${pool.name} pins for at least 60 and at most ${pool.mostPinSeconds} seconds`,
  );
}

/** The refusal when all that lies in a pool, or is on its way there, is wanted by somebody. */
export function poolFull(pool: string, limit: number, wanted: number, asked: number) {
  return new SweepbookError(
    'POOL_FULL',
    `pool ${pool} has ${limit} bytes, ${wanted} of them are pinned, and ${asked} more are asked for: ` +
      'release what is not needed (stage list, stage release), ask for less, or wait until pins end',
    { pool, limitBytes: limit, pinnedBytes: wanted, askedBytes: asked },
  );
}

/** Another try helps nothing. */
const hopeless = new Set(['DUPLICATE', 'FORBIDDEN', 'CHECKSUM_MISMATCH']);
const attemptLimit = 5;

/** Try again later, or give up and say why. One that no store holds any more waits for none. */
export function afterFailure({
  errorCode,
  failureCount,
  copyCount,
}: {
  readonly errorCode: string;
  /** Failed attempts, this one included. */
  readonly failureCount: number;
  /** Confirmed copies in mass stores: each is tried. */
  readonly copyCount: number;
}): 'REQUESTED' | 'FAILED' {
  if (copyCount === 0 || errorCode === 'DUPLICATE' || errorCode === 'FORBIDDEN') return 'FAILED';
  if (hopeless.has(errorCode)) return failureCount >= copyCount ? 'FAILED' : 'REQUESTED';
  return failureCount >= Math.max(attemptLimit, copyCount) ? 'FAILED' : 'REQUESTED';
}
