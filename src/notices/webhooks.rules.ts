import { isIP } from 'node:net';
import { badInput } from '../errors.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import { isPublicAddress } from './addresses.ts';
import { isKept } from '../text.ts';

/** What a webhook can be told. The same lists stand in migrations/0020_webhooks.sql. */
export const noticeKinds = ['DATASET_MARKED_BAD', 'DATASET_CLEARED', 'DATASET_CLOSED'] as const;
export type NoticeKind = (typeof noticeKinds)[number];
export const webhookScopes = ['OWN', 'ALL'] as const;
export type WebhookScope = (typeof webhookScopes)[number];
export const webhookStatuses = ['ENABLED', 'DISABLED'] as const;
export type WebhookStatus = (typeof webhookStatuses)[number];

/** How the kinds are called in what is sent (Standard Webhooks). */
export const noticeTypes: Readonly<Record<NoticeKind, string>> = {
  DATASET_MARKED_BAD: 'dataset.marked_bad',
  DATASET_CLEARED: 'dataset.cleared',
  DATASET_CLOSED: 'dataset.closed',
};

/** What is told when nothing is said: that a dataset turned bad, or good again. */
export const defaultKinds: readonly NoticeKind[] = ['DATASET_MARKED_BAD', 'DATASET_CLEARED'];

export interface DatasetNames {
  readonly eq?: string | null | undefined;
  readonly in?: readonly string[] | null | undefined;
  readonly startsWith?: string | null | undefined;
  readonly glob?: string | null | undefined;
}

const mostNames = 100;
const longestName = 1024;
const longestUrl = 2048;

/** The address as it is kept; refused is what no server of another host can be reached by. */
export function checkUrl(text: string, isPrivateAllowed: boolean): string {
  const refused = (wayOut: string) => badInput('url', text, wayOut);
  const url = text.length <= longestUrl && URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !['https:', 'http:'].includes(url.protocol) || url.href.length > longestUrl) {
    throw refused(`an https or http address of at most ${longestUrl} characters`);
  }
  if (url.username || url.password || url.hash) {
    throw refused('no user, password or #fragment: the signature says who sends');
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isPrivate = isIP(host) ? !isPublicAddress(host) : /(^|\.)localhost\.?$/i.test(host);
  if (isPrivate && !isPrivateAllowed) {
    throw refused('an address of the public Internet; this server sends no notices elsewhere');
  }
  return url.href;
}

/** Kinds as they are kept: each once, at least one. */
export function checkKinds(kinds: readonly NoticeKind[] | null | undefined): NoticeKind[] {
  const wanted = [...new Set(kinds ?? defaultKinds)];
  if (wanted.length === 0)
    throw badInput('kinds', kinds, `one or more of ${noticeKinds.join(', ')}`);
  return wanted;
}

/** The conditions that are there; undefined = every name. */
export function checkNames(names: DatasetNames | null | undefined): DatasetNames | undefined {
  const given = Object.entries(names ?? {}).filter(([, value]) => value != null);
  if (given.length === 0) return undefined;
  if (names?.in && names.in.length > mostNames) {
    throw badInput('datasets.in', names.in.length, `at most ${mostNames} names; or use a pattern`);
  }
  const texts = given.flatMap(([, value]) => value as string | string[]);
  const odd = texts.find((name) => name.length > longestName || !isKept(name));
  if (odd !== undefined) {
    throw badInput('datasets', odd, `names and patterns have at most ${longestName} characters`);
  }
  return Object.fromEntries(given);
}

/** What came of one attempt to deliver. */
export interface Answer {
  /** HTTP status; undefined = none came. */
  readonly status?: number | undefined;
  /** Why it does not count as delivered; undefined = it does. */
  readonly error?: string | undefined;
  /** The receiver asked to be left alone for so long. */
  readonly retryAfterMs?: number | undefined;
}

export interface FailedDelivery {
  readonly answer: Answer;
  /** Failed attempts at this notice, the last one included. */
  readonly failureCount: number;
  readonly failingForMs: number;
  readonly retryBaseMs: number;
  readonly retryHours: number;
}

const longestDelayMs = 3_600_000;
const gone = 410;

/** Try again after a wait, or give up and say why. */
export function afterFailedDelivery(
  failed: FailedDelivery,
  random?: () => number,
): { readonly retryInMs: number } | { readonly disabledReason: string } {
  const { answer, failureCount, failingForMs, retryBaseMs, retryHours } = failed;
  if (answer.status === gone) {
    return { disabledReason: 'the receiver said that it is gone for good (HTTP 410)' };
  }
  if (failingForMs >= retryHours * 3_600_000) {
    return {
      disabledReason: `${failureCount} attempts at one notice failed in ${retryHours} hours, the last one: ${answer.error}`,
    };
  }
  const backoff = { baseMs: retryBaseMs, maxMs: longestDelayMs, ...(random ? { random } : {}) };
  const asked = Math.min(answer.retryAfterMs ?? 0, longestDelayMs);
  return { retryInMs: Math.max(nextDelayMs(failureCount, backoff), asked) };
}
