import type { SweepbookError } from '../errors.ts';

/** What a file must be, as its producer registered it. */
export interface Expected {
  readonly sizeBytes: number;
  /** 8 hexadecimal digits, lower case. */
  readonly adler32: string;
  /** 64 hexadecimal digits, lower case; null = not registered. */
  readonly sha256: string | null;
}

/** What was asked of a store and what it said, kept with the record. */
export interface Evidence {
  readonly asked: string;
  /** As it came, at most 8 KiB. */
  readonly answer: string;
  /** ISO 8601, UTC */
  readonly askedAt: string;
  /** Host that asked. */
  readonly host: string;
}

const mostEvidenceBytes = 8192;

/** The evidence as it is kept: a store that answers a novel must not fill the tables. */
export function keptEvidence(evidence: Evidence): Evidence {
  const bytes = Buffer.from(evidence.answer);
  if (bytes.length <= mostEvidenceBytes) return evidence;
  const answer = bytes
    .subarray(0, mostEvidenceBytes)
    .toString('utf8')
    .replace(/\uFFFD+$/, '');
  return { ...evidence, answer };
}

/**
 * What a store's word must cover before a backup counts, from least to most:
 * COPIED: size and checksum as the store answers them. READ_BACK: bytes read back and hashed by us, from a place
 * that is no cache of ours. ARCHIVED: on tape, by the store's own word, besides size and checksum.
 */
export const confirmLevels = ['COPIED', 'READ_BACK', 'ARCHIVED'] as const;
export type ConfirmLevel = (typeof confirmLevels)[number];

/** An answer is data with evidence, never a mere yes: what is not said is not there. */
export interface StoreAnswer {
  readonly isPresent: boolean;
  readonly sizeBytes?: number;
  readonly adler32?: string;
  readonly sha256?: string;
  readonly evidence: Evidence;
}

/** Where a stored file lies by the word of its store; UNKNOWN: not said, or in words that we do not know. */
export const residencies = ['DISK', 'TAPE', 'DISK_AND_TAPE', 'LOST', 'UNKNOWN'] as const;
export type Residency = (typeof residencies)[number];

export interface ResidencyAnswer {
  readonly residency: Residency;
  /** The store says that it will not come to tape, and why. */
  readonly refusal?: string | undefined;
  readonly evidence: Evidence;
}

/** What became of a file that was asked for: on disk and readable, on its way, or not to be had, and why. */
export interface RecallAnswer {
  readonly state: 'ONLINE' | 'WAITING' | 'FAILED';
  /** In the words of the store. */
  readonly reason?: string | undefined;
  readonly evidence: Evidence;
}

/** Stores whose files must be asked for before they can be read; asking holds nobody up. */
export interface Recalling {
  /** Asks for these files, at most mostKeysPerQuestion; returns how the store calls this request. */
  recall(keys: readonly string[], lifetimeSeconds: number, options?: PutOptions): Promise<string>;
  /** What became of a request, by key; what is not in the answer was not said. undefined = it is not known there. */
  recalled(
    id: string,
    keys: readonly string[],
    options?: PutOptions,
  ): Promise<Map<string, RecallAnswer> | undefined>;
  /** These files are needed no more: the store may take them off its disk, or stop bringing them. */
  letGo(id: string, keys: readonly string[], isThere: boolean, options?: PutOptions): Promise<void>;
}

/** A file of a listing. */
export interface StoredFile {
  readonly key: string;
  readonly sizeBytes: number;
  readonly changedAt: Date | undefined;
}

/** What can be asked of a store beyond copying and reading back. */
export interface StoreFeatures {
  /** Checksums it answers itself, besides the size; empty = its bytes must be read. */
  readonly says: readonly ('adler32' | 'sha256' | 'md5')[];
  /** It has tape, and residencyOf() says what is there. */
  readonly hasTape: boolean;
  /** Producers can copy into it themselves (uploadKey). */
  readonly takesUploads: boolean;
  /** Publishing makes a copy, so what has been published must be asked for again. */
  readonly publishCopies: boolean;
}

export interface StoreState {
  readonly isUp: boolean;
  /** In words, for people. */
  readonly detail: string;
  readonly freeBytes?: number;
}

export interface PutOptions {
  readonly signal?: AbortSignal;
  /** Bytes copied so far; called a few times a second. */
  readonly onProgress?: (bytes: number) => void;
}

/**
 * A mass store. Keys are names inside it, without a leading slash; a file comes in under a
 * temporary key, is asked about, and only then gets its final one.
 * Errors: STORE_UNAVAILABLE (try again), NO_SPACE, SOURCE_UNREADABLE, SOURCE_CHANGED, DUPLICATE.
 */
export interface MassStore {
  readonly name: string;
  readonly kind: string;
  readonly features: StoreFeatures;
  /** Makes its root, when it is new; what is there already stays. */
  prepare(): Promise<void>;
  /** Whether it can be used right now. */
  probe(): Promise<StoreState>;
  /** The final key of a file. */
  finalKey(lfn: string): string;
  /** Copies a file of this host under a temporary key. What lies there already is replaced. */
  put(source: string, key: string, expected: Expected, options?: PutOptions): Promise<void>;
  /**
   * Asks the store for size and checksums, without reading the bytes: as true as the store is. What it does not
   * say in so many words is left out of the answer.
   */
  says(key: string, expected: Expected, options?: PutOptions): Promise<StoreAnswer>;
  /** Asks for size and checksums: the bytes are read back from the store, past every cache of this host. */
  ask(key: string, options?: PutOptions): Promise<StoreAnswer>;
  /** Where these files lie, at most mostKeysPerQuestion; what is not in the answer was not said. */
  residencyOf(keys: readonly string[], options?: PutOptions): Promise<Map<string, ResidencyAnswer>>;
  /** Only of stores whose files must be asked for. */
  readonly recalling?: Recalling | undefined;
  /** All files below the root, those under temporary keys left out; throws when it cannot be sure that it was all. */
  list(options?: PutOptions): AsyncIterable<StoredFile>;
  /** Copies a stored file to a name of this host that is free. SOURCE_UNREADABLE, SOURCE_CHANGED (another size). */
  fetch(key: string, target: string, expected: Expected, options?: PutOptions): Promise<void>;
  /** Gives what lies under a temporary key its final one; never replaces another file (DUPLICATE). */
  publish(temporaryKey: string, finalKey: string): Promise<void>;
  /** Size of what lies there, without reading it; undefined = nothing. */
  sizeOf(key: string): Promise<number | undefined>;
  /** Removes what lies under a temporary key; refuses any other key. */
  removeTemporary(key: string): Promise<void>;
  /**
   * Removes a file for good, of which the caller knows that nothing counts on it: only for what imports and
   * publications that were given up have brought; nothing else is ever removed from a store. Nothing there is fine;
   * folders are left alone.
   */
  remove(key: string): Promise<void>;
  /** Temporary keys that are there, with the record each belongs to. */
  listTemporary(): Promise<TemporaryFile[]>;
  /** The key of a place as a person or producer names it (path or key); BAD_USER_INPUT outside the store. */
  keyOf(place: string): Promise<string>;
  /** The place as a producer on the same file system writes to it. */
  placeOf(key: string): string;
  /** What a job opens. */
  accessUrl(key: string): string;
  /** What accessUrl puts before a key of plain segments; undefined = it does more than that. */
  readonly accessUrlPrefix?: string | undefined;
}

export interface TemporaryFile {
  readonly key: string;
  readonly backupId: number;
  /** undefined = written by the producer himself. */
  readonly attempt: number | undefined;
  readonly changedAt: Date;
}

/** Why an answer is not a confirmation; undefined = it is one. */
export type Doubt = SweepbookError | undefined;

/** Keys in one question about residency. */
export const mostKeysPerQuestion = 500;

/** A store as the tables know it; how to reach it stands in the store file, if it is not a folder. */
export interface StoreSettings {
  readonly name: string;
  readonly kind: string;
  readonly root: string;
  readonly urlPrefix?: string | null | undefined;
}
