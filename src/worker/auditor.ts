import { listMassStores, type MassStoreRow } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import type { StoredFile } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';
import {
  beginComparison,
  nextToRead,
  noteListed,
  notSeen,
  recordReading,
  type CopyToRead,
} from '../suspicions/audit-reads.service.ts';
import { isAlarm, pauseMs } from '../suspicions/audits.rules.ts';
import {
  claimAudit,
  judgeAudit,
  leaveAudit,
  raiseAlarm,
  renewAudit,
  startDueAudit,
  type AuditClaim,
} from '../suspicions/audits.service.ts';
import type { Finding } from '../suspicions/checks.service.ts';
import { readCopy } from './copy-check.ts';
import type { WorkerLog } from './log.ts';

export interface AuditorOptions {
  readonly db: Db;
  readonly stores: OpenStores;
  readonly log: WorkerLog;
  readonly hostname: string;
  /** As it stands in events. */
  readonly name: string;
  readonly leaseSeconds: number;
  readonly onChange: () => void;
}

const lookMs = 5000;
/** A store that is away, or that cannot be listed, is tried again after this. */
const waitSeconds = 300;
/** A reading gives way after this. */
const readingMs = 60_000;
const longestPauseMs = 1000;
/** So many bad copies one after the other say more of the store than of themselves. */
const mostInARow = 10;
const filesPerNote = 2000;
/** Copies that did not show in a listing and are looked at one by one. */
const mostLookedAt = 1000;
const stopped = new Error('the worker is being stopped');

/** Audits stores, one audit at a time: reads back what was confirmed, and compares catalogue and store. */
export class Auditor {
  private readonly o: AuditorOptions;
  private timer: NodeJS.Timeout | undefined;
  private readonly stopping = new AbortController();
  private busy: Promise<void> | undefined;

  constructor(options: AuditorOptions) {
    this.o = options;
  }

  start(): void {
    this.timer = setInterval(() => this.ring(), lookMs);
    this.ring();
  }

  ring(): void {
    if (this.stopping.signal.aborted) return;
    this.busy ??= this.look()
      .catch((error: unknown) => {
        this.o.log.warn({ error: messageOf(error) }, 'audit: will look again');
      })
      .finally(() => (this.busy = undefined));
  }

  /** What is under way is given back: another worker goes on where it stands. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort(stopped);
    await this.busy;
  }

  private async look(): Promise<void> {
    const { db, leaseSeconds, name, stores } = this.o;
    for (const row of await listMassStores(db)) {
      if (!row.isConfigured || !row.isPrepared || this.stopping.signal.aborted) continue;
      const { compareDays, readBackDays } = stores.auditOf(row.name);
      await startDueAudit(db, row.id, 'COMPARE', compareDays);
      await startDueAudit(db, row.id, 'READ_BACK', readBackDays);
      // A comparison, if there is one, and then a while of reading.
      for (let turn = 0; turn < 2; turn++) {
        const claim = await claimAudit(db, row.id, name, leaseSeconds);
        if (claim) await this.audit(claim, row);
      }
    }
  }

  private async audit(claim: AuditClaim, row: MassStoreRow): Promise<void> {
    const { db, leaseSeconds, log, onChange } = this.o;
    const abort = new AbortController();
    const signal = AbortSignal.any([this.stopping.signal, abort.signal]);
    const beat = setInterval(
      () => {
        void renewAudit(db, claim, leaseSeconds)
          .then((isHeld) => isHeld || abort.abort(new SweepbookError('LEASE_LOST', 'overtaken')))
          .catch(() => undefined);
      },
      (leaseSeconds * 1000) / 3,
    );
    const facts = { store: row.name, audit: claim.id, what: claim.what };
    try {
      const { isUp, detail } = await this.o.stores.of(row).probe();
      if (!isUp) throw new SweepbookError('STORE_UNAVAILABLE', detail);
      log.info(facts, 'audit: begun, or gone on with');
      const end =
        claim.what === 'COMPARE'
          ? await this.compare(claim, row, signal)
          : await this.readBack(claim, row, signal);
      log[end === 'ALARM' ? 'warn' : 'info'](
        { ...facts, end },
        'audit: stands where it is, or ended',
      );
    } catch (error) {
      const isStopped = this.stopping.signal.aborted;
      await leaveAudit(db, claim, isStopped ? 0 : waitSeconds, isStopped ? null : messageOf(error));
      if (!isStopped) log.warn({ ...facts, error: messageOf(error) }, 'audit: will go on later');
    } finally {
      clearInterval(beat);
      onChange();
    }
  }

  private async readBack(claim: AuditClaim, row: MassStoreRow, signal: AbortSignal) {
    const { alarmShare: share, bytesPerSecond } = this.o.stores.auditOf(row.name);
    const until = Date.now() + readingMs;
    let inARow = 0;
    for (;;) {
      signal.throwIfAborted();
      const copy = await nextToRead(this.o.db, claim);
      if (!copy) return judgeAudit(this.o.db, claim, { share, isAtEnd: true });
      const begunAt = Date.now();
      const finding = await this.read(copy, row, signal);
      await recordReading(this.o.db, claim, copy, finding, true);
      if (finding.kind === 'BAD' && ++inARow === mostInARow) {
        return raiseAlarm(this.o.db, claim, `${inARow} copies in a row look wrong`);
      }
      if (finding.kind === 'GOOD') {
        // The store is itself: what was found before it is no fault of a mount.
        const state =
          inARow > 0 ? await judgeAudit(this.o.db, claim, { share, isAtEnd: false }) : 'RUNNING';
        if (state !== 'RUNNING') return state;
        inARow = 0;
      }
      const waitMs = pauseMs(copy.expected.sizeBytes, Date.now() - begunAt, bytesPerSecond);
      // Not held meanwhile: other stores have their turn, and any worker may go on.
      if (Date.now() > until || waitMs > longestPauseMs) {
        await leaveAudit(this.o.db, claim, waitMs / 1000, null);
        return 'RUNNING';
      }
      await pause(waitMs, signal);
    }
  }

  private read(copy: CopyToRead, row: MassStoreRow, signal: AbortSignal): Promise<Finding> {
    const { hostname, stores } = this.o;
    const { expected, key, lfn } = copy;
    const at = { kind: 'store', store: row, key } as const;
    return readCopy({ at, expected, lfn, host: hostname, place: `${row.name}:${key}` }, stores, {
      signal,
    });
  }

  /** What did not show in a listing is read by itself: a listing alone condemns nothing. */
  private async compare(claim: AuditClaim, row: MassStoreRow, signal: AbortSignal) {
    const { db, stores } = this.o;
    const { alarmShare: share } = stores.auditOf(row.name);
    await beginComparison(db, claim);
    let files: StoredFile[] = [];
    for await (const file of stores.of(row).list({ signal })) {
      files.push(file);
      if (files.length < filesPerNote) continue;
      await noteListed(db, claim, files);
      files = [];
    }
    await noteListed(db, claim, files);
    const { count, confirmed, copies } = await notSeen(db, claim, mostLookedAt);
    const isTooMuch = isAlarm(count, confirmed, share);
    let bad = 0;
    for (const copy of copies) {
      signal.throwIfAborted();
      const finding: Finding = isTooMuch
        ? await this.glance(copy, row)
        : await this.read(copy, row, signal);
      if (finding.kind === 'BAD') bad++;
      if (finding.kind !== 'GOOD') await recordReading(db, claim, copy, finding, false);
    }
    if (!isTooMuch) return judgeAudit(db, claim, { share, isAtEnd: true });
    if (bad > 0) {
      return raiseAlarm(
        db,
        claim,
        `${count} of ${confirmed} copies look wrong, and ${share} would be the share to act on`,
      );
    }
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `its listing lacks ${count} of ${confirmed} copies, and those are there when they are asked for`,
    );
  }

  /** So many are missing that nothing will be done about them: it is enough to say so. */
  private async glance({ expected, key }: CopyToRead, row: MassStoreRow): Promise<Finding> {
    const evidence = {
      asked: `sizeOf ${key}`,
      answer: '',
      askedAt: new Date().toISOString(),
      host: this.o.hostname,
    };
    const size = await this.o.stores.of(row).sizeOf(key);
    if (size === expected.sizeBytes) return { kind: 'GOOD', says: 'there', evidence };
    const says = `${row.name}:${key} ${size === undefined ? 'is not there' : `has ${size} bytes`}`;
    return { kind: 'BAD', says, evidence: { ...evidence, answer: String(size) } };
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms === 0) return;
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
