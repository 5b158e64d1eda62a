import { createHash } from 'node:crypto';
import { anonymous, type Viewer } from '../access/policy.ts';
import type { Purse } from '../api/context.ts';
import { SweepbookError } from '../errors.ts';
import { limitSetting, type LimitName, type Limits } from '../limits.ts';
import { networkOf } from './address.ts';
import { Buckets } from './buckets.ts';
import { Lanes } from './lanes.ts';
import { Turns } from './turns.ts';

/** For whom it is counted: a principal, or the address of who shows no token. */
export interface Payer {
  readonly key: string;
  /** For people. */
  readonly name: string;
  readonly isAnonymous: boolean;
}

/** Wait, then ask again: `limit` says which of docs/limits.md. */
export function rateLimited(
  limit: LimitName,
  most: number,
  why: string,
  retryAfterSeconds = 5,
): SweepbookError {
  const facts = { limit, most, setting: limitSetting(limit), retryAfterSeconds };
  return new SweepbookError('RATE_LIMITED', why, facts);
}

export const payerOf = (viewer: Viewer, address: string | undefined): Payer => {
  if (viewer !== anonymous) {
    const { principal } = viewer;
    return { key: `principal ${principal}`, name: principal, isAnonymous: false };
  }
  const network = networkOf(address);
  return { key: `address ${network}`, name: `${network} without a token`, isAnonymous: true };
};

/** A request, or an operation on a WebSocket, that is being paid for as it becomes known what it costs. */
export class Ticket implements Purse {
  private paid = 0;
  /** Whether nobody waits for the answer any more. */
  isGone = (): boolean => false;

  constructor(
    private readonly gate: Gate,
    readonly payer: Payer,
  ) {}

  /** Pays what is missing for an operation that may answer with so many fields. RATE_LIMITED when there is not so much. */
  pay(fields: number): void {
    const points = 1 + Math.floor(fields / this.gate.limits.pointFields);
    if (points <= this.paid) return;
    this.gate.take(this.payer, points - this.paid, this.paid);
    this.paid = points;
  }

  /** Pays for what was refused because it is beyond its limits: to find that out costs more than the usual question. */
  fine(): void {
    this.gate.fine(this.payer);
  }

  /**
   * Waits for room beside what else of this payer is being worked on, by points: of what is large, one at a time, so that
   * the event loop and the database have time for others in between. UNAVAILABLE when nobody waits for it any more.
   */
  async begin(): Promise<() => void> {
    const leave = await this.gate.underWay.enter(this.payer.key, this.paid);
    if (this.isGone()) {
      leave();
      throw new SweepbookError('UNAVAILABLE', 'nobody waits for the answer any more');
    }
    return this.paid < this.gate.limits.pointsAtOnce ? leave : resting(leave);
  }
}

/**
 * What is large holds the event loop for tens of milliseconds, and the next one of its payer would follow at once: it
 * waits for as long as the loop was busy meanwhile, so that others have half of it.
 */
function resting(leave: () => void): () => void {
  const begun = performance.eventLoopUtilization();
  return () => void setTimeout(leave, performance.eventLoopUtilization(begun).active).unref();
}

const mostRemembered = 10_000;
/** So many tokens from one address that are new here are looked up at once: others want the database, too. */
const mostLookups = 4;
const isWrongToken = (error: unknown): boolean =>
  error instanceof SweepbookError && error.code === 'UNAUTHENTICATED';
const digestOf = (token: string) => createHash('sha256').update(token).digest('base64');

/** Rates and turns, the same for HTTP and WebSocket. Each server has its own; several servers, several times as much. */
export class Gate {
  readonly turns = new Turns();
  private readonly known: Buckets;
  private readonly strangers: Buckets;
  private readonly wrongTokens: Buckets;
  /** By payer: operations, by their points. */
  readonly underWay: Lanes;
  private readonly lookups = new Lanes(mostLookups);
  /** By digests of tokens: who they were found to be. */
  private readonly payers = new Map<string, Payer>();

  constructor(readonly limits: Limits) {
    this.underWay = new Lanes(limits.pointsAtOnce);
    this.known = new Buckets(limits.rate, limits.burst);
    this.strangers = new Buckets(limits.anonymousRate, limits.anonymousBurst);
    this.wrongTokens = new Buckets(limits.wrongTokenRate, limits.wrongTokenBurst);
  }

  /** Finds out who asks, and has him pay: whoever has asked too much is refused before the database is asked. */
  async admit(
    token: string | undefined,
    address: string | undefined,
    authenticate: () => Promise<Viewer>,
  ): Promise<{ viewer: Viewer; ticket: Ticket }> {
    const digest = token === undefined ? undefined : digestOf(token);
    const remembered = digest === undefined ? payerOf(anonymous, address) : this.payers.get(digest);
    const early = remembered && new Ticket(this, remembered);
    early?.pay(0);
    const viewer = remembered
      ? await this.found(digest, address, authenticate)
      : await this.lookups.run(networkOf(address), () => this.lookedUp(address, authenticate));
    const payer = payerOf(viewer, address);
    if (early && payer.key === remembered.key) return { viewer, ticket: early };
    if (digest !== undefined) this.remember(digest, payer);
    const ticket = new Ticket(this, payer);
    ticket.pay(0);
    return { viewer, ticket };
  }

  /** By a token that was good. */
  private async found(
    digest: string | undefined,
    address: string | undefined,
    authenticate: () => Promise<Viewer>,
  ): Promise<Viewer> {
    try {
      return await authenticate();
    } catch (error) {
      if (isWrongToken(error)) {
        if (digest !== undefined) this.payers.delete(digest);
        this.wrongTokens.take(networkOf(address), 1);
      }
      throw error;
    }
  }

  /** By a token that is new here: it counts as wrong until it is found, lest many are asked for at once. */
  private async lookedUp(
    address: string | undefined,
    authenticate: () => Promise<Viewer>,
  ): Promise<Viewer> {
    const network = networkOf(address);
    this.takeWrong(network);
    let isWrong = false;
    try {
      return await authenticate();
    } catch (error) {
      isWrong = isWrongToken(error);
      throw error;
    } finally {
      if (!isWrong) this.wrongTokens.give(network, 1);
    }
  }

  /** RATE_LIMITED when the points are not there; who comes again pays those that are `paid`, too. */
  take({ key, name, isAnonymous }: Payer, points: number, paid = 0): void {
    const waitSeconds = this.bucketsOf(isAnonymous).take(key, points);
    if (waitSeconds === 0) return;
    const limit = isAnonymous ? 'anonymousRate' : 'rate';
    const most = this.limits[limit];
    const seconds = Math.ceil(waitSeconds + paid / most);
    throw rateLimited(
      limit,
      most,
      `${name} has asked too much, ${most} points a second are the limit: try again in ${seconds} s`,
      seconds,
    );
  }

  fine({ key, isAnonymous }: Payer): void {
    this.bucketsOf(isAnonymous).drain(key, this.limits.refusedPoints);
  }

  private readonly bucketsOf = (isAnonymous: boolean) =>
    isAnonymous ? this.strangers : this.known;

  private takeWrong(network: string): void {
    const waitSeconds = this.wrongTokens.take(network, 1);
    if (waitSeconds === 0) return;
    const seconds = Math.ceil(waitSeconds);
    throw rateLimited(
      'wrongTokenRate',
      this.limits.wrongTokenRate,
      `too many tokens from ${network} were not good: try again in ${seconds} s, with one that is`,
      seconds,
    );
  }

  private remember(digest: string, payer: Payer): void {
    this.payers.set(digest, payer);
    if (this.payers.size <= mostRemembered) return;
    const [oldest] = this.payers.keys();
    if (oldest !== undefined) this.payers.delete(oldest);
  }
}
