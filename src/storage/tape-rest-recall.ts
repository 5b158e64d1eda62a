import { z } from 'zod';
import { SweepbookError } from '../errors.ts';
import {
  mostKeysPerQuestion,
  type PutOptions,
  type RecallAnswer,
  type Recalling,
} from './contract.ts';
import type { WebDav } from './webdav.ts';

// It becomes a part of a path: a dot or two would be another path.
const made = z.object({
  requestId: z
    .string()
    .regex(/^(?!\.{1,2}$)/)
    .min(1)
    .max(1000),
});
const progress = z.object({
  id: z.coerce.string().nullish(),
  files: z.array(
    z.object({
      path: z.string(),
      // A server tells one or the other.
      onDisk: z.boolean().nullish(),
      state: z.string().nullish(),
      error: z.string().nullish(),
    }),
  ),
});

/**
 * The states of the API. onDisk alone, or COMPLETED, is not enough beside an error; COMPLETED beside onDisk: false, or
 * a word that is not known, says nothing, and is asked again.
 */
const stateOfWord: Readonly<Record<string, RecallAnswer['state']>> = {
  SUBMITTED: 'WAITING',
  STARTED: 'WAITING',
  COMPLETED: 'ONLINE',
  FAILED: 'FAILED',
  CANCELLED: 'FAILED',
};

/** Stage, its progress, cancel and release of the WLCG tape REST API v1. */
export class TapeRestRecall implements Recalling {
  private readonly dav: WebDav;
  private readonly root: string;
  private readonly endpoint: (options: PutOptions) => Promise<string>;

  constructor(dav: WebDav, root: string, endpoint: (options: PutOptions) => Promise<string>) {
    this.dav = dav;
    this.root = root;
    this.endpoint = endpoint;
  }

  /** POST stage; without a positive answer that names the request there is none. */
  async recall(
    keys: readonly string[],
    lifetimeSeconds: number,
    options: PutOptions = {},
  ): Promise<string> {
    const asked = [...pathsOf(this.root, keys.slice(0, mostKeysPerQuestion)).keys()];
    const files = asked.map((path) => ({ path, diskLifetime: `PT${lifetimeSeconds}S` }));
    const answer = await this.call('POST', 'stage', { files }, options);
    const read = answer.isCut ? undefined : made.safeParse(parsed(answer.text)).data;
    if (![200, 201].includes(answer.status) || !read) throw this.refused('POST stage', answer);
    return read.requestId;
  }

  /** GET stage/{id}. Counts for the path that it names; two answers for one path that differ say nothing. */
  async recalled(
    id: string,
    keys: readonly string[],
    options: PutOptions = {},
  ): Promise<Map<string, RecallAnswer> | undefined> {
    const road = `stage/${encodeURIComponent(id)}`;
    const askedAt = new Date().toISOString();
    const answer = await this.call('GET', road, undefined, options);
    if (answer.status === 404 || answer.status === 410) return undefined;
    const read = answer.isCut ? undefined : progress.safeParse(parsed(answer.text)).data;
    const isOfAnother = read?.id != null && read.id !== id;
    if (answer.status !== 200 || !read || isOfAnother) throw this.refused(`GET ${road}`, answer);
    const byPath = pathsOf(this.root, keys);
    const found = new Map<string, RecallAnswer>();
    const contradicted = new Set<string>();
    for (const file of read.files) {
      const key = byPath.get(file.path);
      const state = stateOf(file);
      if (key === undefined || state === undefined) continue;
      const before = found.get(key);
      if (before && before.state !== state) contradicted.add(key);
      const evidence = this.dav.evidence(`GET ${road} ${file.path}`, askedAt, file);
      const reason = file.error?.slice(0, 500) ?? (state === 'FAILED' ? file.state : undefined);
      found.set(key, { state, reason: reason ?? undefined, evidence });
    }
    for (const key of contradicted) found.delete(key);
    return found;
  }

  /** POST release/{id}, or POST stage/{id}/cancel for what is not there yet. A request that is gone holds nothing. */
  async letGo(
    id: string,
    keys: readonly string[],
    isThere: boolean,
    options: PutOptions = {},
  ): Promise<void> {
    const name = encodeURIComponent(id);
    const road = isThere ? `release/${name}` : `stage/${name}/cancel`;
    const paths = [...pathsOf(this.root, keys).keys()];
    const answer = await this.call('POST', road, { paths }, options);
    if (![200, 201, 202, 204, 404, 410].includes(answer.status)) {
      throw this.refused(`POST ${road}`, answer);
    }
  }

  private async call(method: string, road: string, body: unknown, options: PutOptions) {
    const endpoint = (await this.endpoint(options)).replace(/\/+$/, '');
    return this.dav.ask({
      method,
      url: `${endpoint}/${road}`,
      headers: {
        Accept: 'application/json',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: options.signal,
    });
  }

  private refused(what: string, answer: Awaited<ReturnType<WebDav['ask']>>): SweepbookError {
    return this.dav.refused(what, '', answer, problemOf(answer.text));
  }
}

function stateOf(
  file: z.infer<typeof progress>['files'][number],
): RecallAnswer['state'] | undefined {
  if (file.state != null) {
    const state = stateOfWord[file.state];
    if (state === 'ONLINE' && file.error) return 'FAILED';
    return state === 'ONLINE' && file.onDisk === false ? undefined : state;
  }
  if (file.error) return 'FAILED';
  if (file.onDisk == null) return undefined;
  return file.onDisk ? 'ONLINE' : 'WAITING';
}

/** Keys by the path that the API knows them by. */
export function pathsOf(root: string, keys: readonly string[]): Map<string, string> {
  const base = decodeURIComponent(new URL(`${root}/`).pathname);
  return new Map(keys.map((key) => [base + key, key]));
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** RFC 7807, as far as it helps a person. */
export function problemOf(text: string): string | undefined {
  const problem = z
    .object({ title: z.string().optional(), detail: z.string().optional() })
    .safeParse(parsed(text)).data;
  const told = [problem?.title, problem?.detail].filter((part) => part).join(': ');
  return told === '' ? undefined : told.slice(0, 300);
}
