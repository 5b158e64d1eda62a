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

/** An answer is data with evidence, never a mere yes: what is not said is not there. */
export interface StoreAnswer {
  readonly isPresent: boolean;
  readonly sizeBytes?: number;
  readonly adler32?: string;
  readonly sha256?: string;
  readonly evidence: Evidence;
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
  /** Whether it can be used right now. */
  probe(): Promise<StoreState>;
  /** The final key of a file. */
  finalKey(lfn: string): string;
  /** The key under which an attempt copies; told apart from those of all other attempts. */
  temporaryKey(backupId: number, attempt: number): string;
  /** The key under which the producer copies by himself; one for each record. */
  uploadKey(backupId: number): string;
  /** Copies a file of this host under a temporary key. What lies there already is replaced. */
  put(source: string, key: string, expected: Expected, options?: PutOptions): Promise<void>;
  /** Asks for size and checksums: the bytes are read back from the store. */
  ask(key: string, options?: PutOptions): Promise<StoreAnswer>;
  /** Copies a stored file to a name of this host that is free. SOURCE_UNREADABLE, SOURCE_CHANGED (another size). */
  fetch(key: string, target: string, expected: Expected, options?: PutOptions): Promise<void>;
  /** Gives what lies under a temporary key its final one; never replaces another file (DUPLICATE). */
  publish(temporaryKey: string, finalKey: string): Promise<void>;
  /** Size of what lies there, without reading it; undefined = nothing. */
  sizeOf(key: string): Promise<number | undefined>;
  /** Removes what lies under a temporary key; refuses any other key. */
  removeTemporary(key: string): Promise<void>;
  /** Temporary keys that are there, with the record each belongs to. */
  listTemporary(): Promise<TemporaryFile[]>;
  /** The key of a place as a person or producer names it (path or key); BAD_USER_INPUT outside the store. */
  keyOf(place: string): Promise<string>;
  isTemporary(key: string): boolean;
  /** The place as a producer on the same file system writes to it. */
  placeOf(key: string): string;
  /** What a job opens. */
  accessUrl(key: string): string;
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

/** A store as it is configured. */
export interface StoreSettings {
  readonly name: string;
  readonly kind: string;
  readonly root: string;
  readonly urlPrefix?: string | null | undefined;
}
