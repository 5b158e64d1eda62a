import { randomBytes } from 'node:crypto';
import type { Db } from '../database/orm.ts';
import { messageOf } from '../errors.ts';
import type { Place } from '../events/events.queries.ts';
import {
  claimWebhooks,
  foreignWebhooks,
  lastNoticeLine,
  leaveEarlierDatabase,
  letGo,
  noticeDelivered,
  noticeFailed,
  pendingNotices,
  type HeldWebhook,
  type PendingNotice,
} from './deliveries.service.ts';
import { makeNotice } from './notice.ts';
import { post } from './post.ts';
import { signedHeaders, type WebhookKey } from './signature.ts';
import type { Answer } from './webhooks.rules.ts';

export interface NoticeDeliveryOptions {
  readonly db: Db;
  readonly epoch: string;
  readonly key: WebhookKey;
  readonly hostname: string;
  readonly isPrivateAllowed: boolean;
  readonly timeoutMs: number;
  readonly retryBaseMs: number;
  readonly webhookRetryHours: number;
  readonly log: {
    info(facts: object, message: string): void;
    warn(facts: object, message: string): void;
  };
}

/** Receivers that are told something at the same time, by one server. */
const mostAtOnce = 16;
/** Notices that are read at once for one webhook. */
const pageSize = 20;
/** A webhook with a long backlog makes room for others after so many. */
const mostInARow = 100;
const pollMs = 1000;
/** What the lease lasts beyond the longest wait for an answer. */
const graceMs = 5000;

/**
 * Tells webhooks what the log says: each in the order of the log, at least once, whatever dies when.
 * The place of a webhook moves only after its receiver has answered; servers share them by leases.
 */
export class NoticeDelivery {
  private readonly o: NoticeDeliveryOptions;
  private readonly server: string;
  private readonly leaseMs: number;
  private readonly running = new Set<Promise<void>>();
  private stopping = false;
  private isRung = false;
  private wakeUp: (() => void) | undefined;
  private loop: Promise<void> = Promise.resolve();
  private isInTrouble = false;

  constructor(options: NoticeDeliveryOptions) {
    this.o = options;
    this.server = `server ${options.hostname}/${process.pid}-${randomBytes(3).toString('hex')}`;
    this.leaseMs = options.timeoutMs + graceMs;
  }

  async start(): Promise<void> {
    const { epoch, key, log } = this.o;
    const moved = await leaveEarlierDatabase(this.db, epoch);
    if (moved > 0) log.warn({ moved }, 'webhooks: of an earlier database, they go on from now');
    const foreign = await foreignWebhooks(this.db, key.id);
    if (foreign > 0) {
      log.warn(
        { foreign },
        'webhooks: made with another SWEEPBOOK_WEBHOOK_KEY, not served from here',
      );
    }
    this.loop = this.run();
  }

  /** There may be something to tell: look now. */
  ring(): void {
    this.isRung = true;
    this.wakeUp?.();
  }

  /** Begins nothing more; what is on its way is waited for, at most one time-out long. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.ring();
    await this.loop;
    await Promise.allSettled(this.running);
  }

  private get db(): Db {
    return this.o.db.fork();
  }

  private async run(): Promise<void> {
    while (!this.stopping) {
      this.isRung = false;
      try {
        await this.look();
        this.isInTrouble = false;
      } catch (error) {
        // Said once an outage.
        if (!this.isInTrouble) {
          this.o.log.warn({ error: messageOf(error) }, 'webhooks: will try again');
        }
        this.isInTrouble = true;
      }
      if (!this.stopping) await this.sleep();
    }
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      if (this.isRung && !this.isInTrouble) return resolve();
      const timer = setTimeout(resolve, pollMs);
      this.wakeUp = () => {
        if (this.isInTrouble && !this.stopping) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async look(): Promise<void> {
    const most = mostAtOnce - this.running.size;
    const head = most > 0 ? await lastNoticeLine(this.db) : undefined;
    if (!head) return;
    const { leaseMs, server } = this;
    const claim = { head, keyId: this.o.key.id, server, leaseMs, most };
    for (const webhook of await claimWebhooks(this.db, claim)) {
      const work = this.serve(webhook, head)
        .catch((error: unknown) => {
          // The lease runs out, and whoever is there goes on.
          this.o.log.warn({ webhook: webhook.id, error: messageOf(error) }, 'webhook: let go');
        })
        .finally(() => {
          this.running.delete(work);
          this.ring();
        });
      this.running.add(work);
    }
  }

  /** Tells one webhook what it has not been told, up to where the log was known. */
  private async serve(webhook: HeldWebhook, head: Place): Promise<void> {
    let { failureCount } = webhook;
    for (let told = 0; told < mostInARow && !this.stopping;) {
      const pending = await pendingNotices(this.db, webhook, pageSize);
      if (pending.objection !== undefined) {
        return this.failed({ ...webhook, failureCount }, { error: pending.objection }, undefined);
      }
      if (pending.notices.length === 0) return letGo(this.db, webhook, head);
      for (const notice of pending.notices) {
        if (this.stopping) break;
        const isToldNow = await this.tell({ ...webhook, failureCount }, notice);
        if (!isToldNow) return;
        failureCount = 0;
        told++;
      }
      const last = pending.notices.at(-1)?.event;
      if (last) webhook = { ...webhook, toldXid: last.xid, toldId: last.id };
    }
    await letGo(this.db, webhook);
  }

  private async tell(webhook: HeldWebhook, { event, dataset }: PendingNotice): Promise<boolean> {
    const { key, timeoutMs, isPrivateAllowed, epoch } = this.o;
    const { id, body } = makeNotice(epoch, event, dataset);
    const timestamp = Math.floor(Date.now() / 1000);
    const headers = signedHeaders(key, webhook.salt, { id, timestamp, body });
    const answer = await post({ url: webhook.url, headers, body, timeoutMs, isPrivateAllowed });
    if (answer.error !== undefined) {
      await this.failed(webhook, answer, id);
      return false;
    }
    const { status } = answer;
    const { leaseMs } = this;
    const attempts = webhook.failureCount + 1;
    return noticeDelivered(this.db, webhook, event, { notice: id, status, attempts, leaseMs });
  }

  private async failed(
    webhook: HeldWebhook,
    answer: Answer,
    notice: string | undefined,
  ): Promise<void> {
    const { retryBaseMs, webhookRetryHours: retryHours, log } = this.o;
    const options = { notice, retryBaseMs, retryHours };
    const disabledReason = await noticeFailed(this.db, webhook, answer, options);
    // No address here: it may carry a secret of its own.
    const facts = { webhook: webhook.id, owner: webhook.owner, error: answer.error };
    if (disabledReason !== undefined) log.warn(facts, 'webhook: disabled');
    else log.info(facts, 'webhook: not delivered, will be tried again');
  }
}
