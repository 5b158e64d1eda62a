import type { LimitName, Limits } from '../limits.ts';
import { rateLimited, type Payer } from './gate.ts';

interface Held {
  requests: number;
  bytes: number;
}

/** A request under way. */
export interface Place {
  /** More bytes that are held for it. RATE_LIMITED when it is too much. */
  hold(bytes: number): void;
  leave(): void;
}

/** What is under way: requests, and the bytes of their bodies and of answers that wait for their readers. */
export class InFlight {
  private readonly held = new Map<string, Held>();
  private readonly all: Held = { requests: 0, bytes: 0 };

  constructor(private readonly limits: Limits) {}

  /** RATE_LIMITED when there is too much already. */
  enter(payer: Payer, bytes: number): Place {
    const own = this.held.get(payer.key) ?? { requests: 0, bytes: 0 };
    this.demandRequests(payer, own);
    this.demandBytes(payer, own, bytes);
    this.held.set(payer.key, own);
    let mine = 0;
    const add = (requests: number, more: number) => {
      mine += more;
      for (const count of [own, this.all]) {
        count.requests += requests;
        count.bytes += more;
      }
    };
    add(1, bytes);
    return {
      hold: (more) => {
        this.demandBytes(payer, own, more);
        add(0, more);
      },
      leave: () => {
        add(-1, -mine);
        if (own.requests === 0) this.held.delete(payer.key);
      },
    };
  }

  private demandRequests({ name, isAnonymous }: Payer, own: Held): void {
    const limit: LimitName = isAnonymous ? 'anonymousRequestsInFlight' : 'requestsInFlight';
    const most = this.limits[limit];
    if (own.requests >= most) {
      const why = `${name} has ${most} requests under way: wait for answers before you ask more`;
      throw rateLimited(limit, most, why);
    }
    if (this.all.requests >= this.limits.requestsInAll) {
      const all = this.limits.requestsInAll;
      throw rateLimited(
        'requestsInAll',
        all,
        `${all} requests are under way: try again in a moment`,
      );
    }
  }

  private demandBytes({ name }: Payer, own: Held, more: number): void {
    const { bytesInFlight, bytesInAll } = this.limits;
    if (own.bytes + more > bytesInFlight) {
      throw rateLimited(
        'bytesInFlight',
        bytesInFlight,
        `${name} has ${own.bytes} bytes under way, and ${more} more are too many: send less at once, and take the answers`,
      );
    }
    if (this.all.bytes + more > bytesInAll) {
      const why = `${bytesInAll} bytes are under way, of all: try again in a moment`;
      throw rateLimited('bytesInAll', bytesInAll, why);
    }
  }
}
