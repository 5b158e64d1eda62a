import type { Db } from '../database/orm.ts';
import { withRider, type Rider } from '../database/rider.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import { visible } from '../text.ts';
import type { Viewer } from './policy.ts';

export type AuditKind = 'QUERY' | 'MUTATION' | 'SUBSCRIPTION' | 'REQUEST' | 'CONNECTION';

/** Who asks for what, from where. */
export interface Asked {
  readonly viewer: Pick<Viewer, 'principal' | 'roles' | 'credential'>;
  readonly requestId: string | undefined;
  readonly address: string | undefined;
  readonly kind: AuditKind;
  /** The root field, or method and route. */
  readonly field: string;
  /** As the client calls its operation. */
  readonly operation?: string | undefined;
}

/** Whoever shows a token that is not known. */
export const unknownViewer = { principal: 'unknown', roles: [] } as const;

/** A WebSocket that somebody opens. */
export const connectionOf = (viewer: Asked['viewer'], address: string | undefined): Asked => ({
  viewer,
  requestId: undefined,
  address,
  kind: 'CONNECTION',
  field: 'connection_init',
});

const longestOrigin = 200;

/** The same for a page of another origin, which comes no further; what is too long for an origin is not kept. */
export const upgradeOf = (origin: string = '', address: string | undefined): Asked => ({
  ...connectionOf(unknownViewer, address),
  field: 'GET /graphql',
  operation: origin.length <= longestOrigin ? visible(origin) : undefined,
});

export interface AuditTrailOptions {
  readonly db: Db;
  /** So long a line is kept; 0 = for good. */
  readonly days: number;
  /** Reads that were answered are written down, too. */
  readonly reads: boolean;
  onTrouble(message: string): void;
}

interface Waiting {
  readonly asked: Asked;
  readonly code: string | null;
  readonly at: Date;
  times: number;
}

const flushMs = 500;
/** Who floods us is one line a second, and then one for all that flood. */
const mostWaiting = 1000;
const removeEveryMs = 3_600_000;
const removedAtOnce = 10_000;
/** What the server refuses because of who asks. */
const ofWhoAsks = new Set(['UNAUTHENTICATED', 'FORBIDDEN']);

/**
 * The audit trail: mutations with the transaction that does them, refusals, and reads if they are wanted, a moment later
 * and those that are alike as one.
 */
export class AuditTrail {
  readonly reads: boolean;
  private readonly options: AuditTrailOptions;
  private readonly timers: NodeJS.Timeout[];
  private waiting = new Map<string, Waiting>();
  private working: Promise<void> = Promise.resolve();
  private isWorking = false;

  constructor(options: AuditTrailOptions) {
    this.options = options;
    this.reads = options.reads;
    this.timers = [
      setInterval(() => this.work(() => this.flush()), flushMs),
      setInterval(() => this.work(() => this.removeOld()), removeEveryMs),
    ];
  }

  /** A change: its line is committed with it, or it is not done. A refusal is written down with its code. */
  async change<T>(asked: Asked, work: () => Promise<T>): Promise<T> {
    const rider: Rider = {
      write: (tx) => this.insert(tx, [{ asked, code: null, at: new Date(), times: 1 }]),
      isWritten: false,
      isOver: false,
    };
    try {
      const answer = await withRider(rider, work);
      // It came without a transaction, so there was nothing to do, or it is done elsewhere.
      if (!rider.isWritten) await rider.write(this.options.db.fork());
      return answer;
    } catch (error) {
      this.refused(asked, error instanceof SweepbookError ? error.code : 'INTERNAL');
      throw error;
    }
  }

  /** A question: written down when it is refused because of who asks, and otherwise if reads are. */
  async question<T>(asked: Asked, work: () => T | Promise<T>): Promise<T> {
    try {
      const answer = await work();
      if (this.reads) this.note(asked, null);
      return answer;
    } catch (error) {
      if (error instanceof SweepbookError && (this.reads || ofWhoAsks.has(error.code))) {
        this.refused(asked, error.code);
      }
      throw error;
    }
  }

  /** A question that was answered elsewhere. */
  answered(asked: Asked): void {
    if (this.reads) this.note(asked, null);
  }

  refused(asked: Asked, code: string): void {
    this.note(asked, code);
  }

  private note(asked: Asked, code: string | null): void {
    const { viewer, address, kind, field, operation } = asked;
    const { principal, credential } = viewer;
    // How he calls his operation is the stranger's to say, and he may call each otherwise: refusals are one line without.
    const called = code === null ? operation : undefined;
    const key = JSON.stringify([principal, credential, address, kind, field, called, code]);
    const isFlood = this.waiting.size >= mostWaiting && !this.waiting.has(key);
    const line = isFlood ? { asked: { ...asked, ...flood }, code } : { asked, code };
    const lineKey = isFlood ? `flood ${kind} ${code}` : key;
    const known = this.waiting.get(lineKey);
    if (known) known.times++;
    else this.waiting.set(lineKey, { ...line, at: new Date(), times: 1 });
  }

  private work(what: () => Promise<void>): void {
    if (this.isWorking) return;
    this.isWorking = true;
    this.working = what()
      .catch((error: unknown) => this.options.onTrouble(messageOf(error)))
      .finally(() => (this.isWorking = false));
  }

  private async flush(): Promise<void> {
    if (this.waiting.size === 0) return;
    const lines = this.waiting;
    this.waiting = new Map();
    try {
      await this.insert(this.options.db.fork(), [...lines.values()]);
    } catch (error) {
      // Once more with the next ones; the newer of two that are alike counts on.
      for (const [key, line] of lines) {
        const newer = this.waiting.get(key);
        if (newer) newer.times += line.times;
        else if (this.waiting.size < 2 * mostWaiting) this.waiting.set(key, line);
      }
      throw error;
    }
  }

  private async insert(db: Db, lines: readonly Waiting[]): Promise<void> {
    const { days } = this.options;
    const kept = days === 0 ? sql`null` : sql`clock_timestamp() + make_interval(days => ${days})`;
    await rows(
      db,
      sql`insert into audit_trail (at, kept_until, request_id, principal, roles, token_prefix, issuer, subject, jti,
          address, kind, operation, field, outcome, code, times)
        select l.at, ${kept}, l.request_id, l.principal, l.roles, l.token_prefix, l.issuer, l.subject, l.jti, l.address,
          l.kind, l.operation, l.field, case when l.code is null then 'DONE' else 'REFUSED' end, l.code, l.times
        from jsonb_to_recordset(${JSON.stringify(lines.map(columnsOf))}::jsonb) as l(at timestamptz, request_id text,
          principal text, roles text[], token_prefix text, issuer text, subject text, jti text, address text, kind text,
          operation text, field text, code text, times integer)`,
    );
  }

  private async removeOld(): Promise<void> {
    for (;;) {
      const removed = await changedRows(
        this.options.db.fork(),
        sql`delete from audit_trail where id in (
          select id from audit_trail where kept_until < clock_timestamp() order by kept_until limit ${removedAtOnce})`,
      );
      if (removed < removedAtOnce) return;
    }
  }

  async close(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    await this.working;
    await this.flush();
  }
}

const flood = {
  viewer: { principal: '(many)', roles: [] },
  requestId: undefined,
  address: undefined,
  operation: undefined,
  field: '(many)',
} as const;

/** As long as a column takes it. What cannot be written, NUL and half characters, no road brings here. */
const short = (text: string | undefined, most: number) => text?.slice(0, most) ?? null;

function columnsOf({ asked, code, at, times }: Waiting): object {
  const { viewer, requestId, address, kind, field, operation } = asked;
  const { principal, roles, credential } = viewer;
  const jwt = credential?.kind === 'JWT' ? credential : undefined;
  return {
    at,
    request_id: short(requestId, 100),
    principal,
    roles,
    token_prefix: credential?.kind === 'TOKEN' ? credential.prefix : null,
    issuer: jwt?.issuer,
    subject: short(jwt?.subject, 1000),
    jti: short(jwt?.jti, 1000),
    address,
    kind,
    operation: short(operation, 200),
    field: short(field, 300),
    code,
    times,
  };
}
