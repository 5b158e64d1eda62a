import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import { lookAt } from '../imports/follow-look.ts';
import type { RuleClaim } from '../imports/follow-rule.ts';
import { claimRule, endLook } from '../imports/follow.service.ts';
import type { ImportSettings } from '../storage/import-sources.ts';
import type { WorkerLog } from './log.ts';

export interface FollowOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly imports: ImportSettings;
  readonly site: string;
  readonly followSeconds: number;
  readonly log: WorkerLog;
  readonly onChange: () => void;
}

const pollMs = 1000;

/** Looks at what standing rules follow, one rule after the other. A rule is claimed with a lease, as all work is. */
export class FollowWorker {
  private readonly o: FollowOptions;
  private draining = false;
  private wakeUp: (() => void) | undefined;
  private loop: Promise<void> = Promise.resolve();

  constructor(options: FollowOptions) {
    this.o = options;
  }

  start(): void {
    this.loop = this.run();
  }

  /** There may be work: look now. */
  ring(): void {
    this.wakeUp?.();
  }

  async stop(): Promise<void> {
    this.draining = true;
    this.ring();
    await this.loop;
  }

  private async run(): Promise<void> {
    while (!this.draining) {
      let rule: RuleClaim | undefined;
      try {
        rule = await claimRule(this.o.db);
        if (rule) await this.look(rule);
      } catch (error) {
        this.o.log.warn({ error: messageOf(error) }, 'follow: will try again');
      }
      if (!rule && !this.draining) await this.sleep();
    }
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pollMs);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async look(rule: RuleClaim): Promise<void> {
    const { db, followSeconds, log, onChange } = this.o;
    try {
      await lookAt(this.o, rule);
      await endLook(db, rule, followSeconds * 1000);
      onChange();
    } catch (error) {
      const code = error instanceof SweepbookError ? error.code : 'INTERNAL';
      const message = messageOf(error);
      await endLook(db, rule, followSeconds * 1000, { code, message });
      log.warn(
        { rule: rule.id, site: rule.site, code, reason: message },
        'follow: will look again',
      );
    }
  }
}
