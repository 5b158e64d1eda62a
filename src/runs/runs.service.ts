import { demand, type Viewer } from '../access/policy.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError, type ErrorCode } from '../errors.ts';
import {
  demandOrder,
  registerAgain,
  type RunFacts,
  type RunSource,
  type RunVerdict,
} from './runs.rules.ts';
import { isLine } from '../text.ts';

export const mostRunsPerCall = 10_000;

export interface RegisterRun extends Partial<{ [K in keyof RunFacts]: RunFacts[K] | undefined }> {
  readonly number: number;
  readonly source: RunSource;
}

export interface ItemRefusal {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface RunOutcome {
  readonly index: number;
  readonly number: number;
  readonly source: RunSource;
  readonly outcome: 'REGISTERED' | 'UPDATED' | 'EXISTING' | 'REFUSED';
  readonly error?: ItemRefusal;
  readonly runId?: number;
}

interface KnownRun extends RunFacts {
  readonly id: number;
  readonly number: number;
  readonly source: RunSource;
}

function factsOf(input: RegisterRun): RunFacts {
  return {
    startedAt: input.startedAt ?? null,
    endedAt: input.endedAt ?? null,
    eventCount: input.eventCount ?? null,
    luminosity: input.luminosity ?? null,
    conditions: input.conditions ?? null,
    expectedStreams: input.expectedStreams ?? null,
  };
}

function checkForm(input: RegisterRun): void {
  if (!Number.isInteger(input.number) || input.number < 1) {
    throw badInput('number', input.number, 'a run number is a positive whole number');
  }
  demandOrder(input.startedAt ?? null, input.endedAt ?? null);
  if (input.eventCount != null && input.eventCount < 0) {
    throw badInput('eventCount', input.eventCount, 'a count is not negative');
  }
  if (input.luminosity != null && !(input.luminosity >= 0 && Number.isFinite(input.luminosity))) {
    throw badInput('luminosity', input.luminosity, 'a luminosity (1/pb) is not negative');
  }
  for (const text of [input.conditions ?? '', ...(input.expectedStreams ?? [])]) {
    if (text.length > 200 || !isLine(text)) {
      throw badInput('conditions or expectedStreams', text, 'at most 200 printable characters');
    }
  }
  if ((input.expectedStreams?.length ?? 0) > 1000) {
    throw badInput('expectedStreams', input.expectedStreams?.length, 'at most 1000 streams');
  }
}

const keyOf = (run: { source: string; number: number }) => `${run.source} ${run.number}`;

/** Registers runs, or fills in what is new about known ones; one answer per item, good items are kept. */
export async function registerRuns(
  db: Db,
  viewer: Viewer,
  inputs: readonly RegisterRun[],
  idempotencyKey?: string | null,
): Promise<RunOutcome[]> {
  demand(viewer, 'registerRuns');
  if (inputs.length > mostRunsPerCall) {
    throw badInput('runs', inputs.length, `at most ${mostRunsPerCall} runs in one call`);
  }
  const call = {
    principal: viewer.principal,
    operation: 'registerRuns',
    key: idempotencyKey,
    request: inputs,
  };
  return inTransaction(db, viewer, (tx) =>
    onceForKey(tx, call, async () => {
      const known = await lockRuns(tx, inputs);
      const seen = new Set<string>();
      const outcomes = inputs.map((input, index): RunOutcome => {
        const item = { index, number: input.number, source: input.source };
        try {
          checkForm(input);
          if (seen.has(keyOf(input))) {
            throw new SweepbookError('DUPLICATE', `run ${input.number} stands twice in this call`);
          }
          seen.add(keyOf(input));
          const run = known.get(keyOf(input));
          if (!run) return { ...item, outcome: 'REGISTERED' };
          const outcome = registerAgain(input.number, run, factsOf(input));
          return { ...item, outcome, runId: run.id };
        } catch (error) {
          return { ...item, outcome: 'REFUSED', error: refusalOf(error) };
        }
      });
      await writeRuns(tx, inputs, outcomes);
      return withIds(tx, outcomes);
    }),
  );
}

/** A refusal of one item among many; anything else goes on up. */
export function refusalOf(error: unknown): ItemRefusal {
  if (error instanceof SweepbookError) return { code: error.code, message: error.message };
  throw error;
}

async function lockRuns(tx: Db, keys: readonly RegisterRun[]): Promise<Map<string, KnownRun>> {
  const found = await rows(
    tx,
    sql<KnownRun>`
    select r.id, r.number, r.source, r.started_at as "startedAt", r.ended_at as "endedAt",
      r.event_count as "eventCount", r.luminosity, r.conditions, r.expected_streams as "expectedStreams"
    from runs r
    where (r.source, r.number) in (
      select source, number from jsonb_to_recordset(${JSON.stringify(
        keys
          .filter((key) => Number.isInteger(key.number) && Math.abs(key.number) < 2 ** 31)
          .map(({ source, number }) => ({ source, number })),
      )}::jsonb) as k (source text, number integer))
    order by r.id for no key update`,
  );
  return new Map(found.map((run) => [keyOf(run), run]));
}

async function writeRuns(
  tx: Db,
  inputs: readonly RegisterRun[],
  outcomes: readonly RunOutcome[],
): Promise<void> {
  const told = (outcome: RunOutcome['outcome']) =>
    JSON.stringify(inputs.filter((_, i) => outcomes[i]?.outcome === outcome));
  const record = sql`as t (source text, number integer, "startedAt" timestamptz, "endedAt" timestamptz,
    "eventCount" bigint, luminosity double precision, conditions text, "expectedStreams" text[])`;
  await rows(
    tx,
    sql`insert into runs (source, number, started_at, ended_at, event_count, luminosity, conditions, expected_streams)
      select source, number, "startedAt", "endedAt", "eventCount", luminosity, conditions, coalesce("expectedStreams", '{}')
      from jsonb_to_recordset(${told('REGISTERED')}::jsonb) ${record}`,
  );
  await rows(
    tx,
    sql`update runs r set started_at = coalesce(t."startedAt", r.started_at), ended_at = coalesce(t."endedAt", r.ended_at),
        event_count = coalesce(t."eventCount", r.event_count), luminosity = coalesce(t.luminosity, r.luminosity),
        conditions = coalesce(t.conditions, r.conditions),
        expected_streams = coalesce(t."expectedStreams", r.expected_streams)
      from jsonb_to_recordset(${told('UPDATED')}::jsonb) ${record}
      where r.source = t.source and r.number = t.number`,
  );
}

async function withIds(tx: Db, outcomes: RunOutcome[]): Promise<RunOutcome[]> {
  const made = outcomes.filter((item) => item.outcome === 'REGISTERED');
  const found = await rows(
    tx,
    sql<{ id: number; source: string; number: number }>`
    select r.id, r.source, r.number from runs r
    join jsonb_to_recordset(${JSON.stringify(made)}::jsonb) as t (source text, number integer)
      on t.source = r.source and t.number = r.number`,
  );
  const ids = new Map(found.map((run) => [keyOf(run), run.id]));
  return outcomes.map((item) =>
    item.outcome === 'REGISTERED' ? { ...item, runId: ids.get(keyOf(item)) ?? 0 } : item,
  );
}

export interface SetVerdict {
  readonly number: number;
  readonly source: RunSource;
  readonly verdict: RunVerdict;
  readonly comment?: string | null | undefined;
}

/** DQM's word on a run that is AVAILABLE; the same word again changes nothing. */
export async function setRunVerdict(
  db: Db,
  viewer: Viewer,
  input: SetVerdict,
): Promise<{ runId: number; changed: boolean }> {
  demand(viewer, 'setRunVerdict');
  const comment = input.comment?.trim() || null;
  if (comment !== null && comment.length > 2000) {
    throw badInput('comment', comment, 'at most 2000 characters');
  }
  return inTransaction(db, viewer, async (tx) => {
    const run = await firstRow(
      tx,
      sql<{ id: number; status: string; verdict: string | null; comment: string | null }>`
      select id, production_status as status, verdict, verdict_comment as comment from runs
      where number = ${input.number} and source = ${input.source} for no key update`,
    );
    if (!run) throw runNotFound(input);
    if (run.status !== 'AVAILABLE') {
      throw new SweepbookError(
        'ILLEGAL_TRANSITION',
        `run ${input.number} is still in production: a verdict is given when it is AVAILABLE`,
        { number: input.number, productionStatus: run.status },
      );
    }
    if (run.verdict === input.verdict && run.comment === comment) {
      return { runId: run.id, changed: false };
    }
    const changed = await changedRows(
      tx,
      sql`update runs set verdict = ${input.verdict}, verdict_comment = ${comment},
          verdict_by = ${viewer.principal}, verdict_at = clock_timestamp()
        where id = ${run.id} returning id`,
    );
    return { runId: run.id, changed: changed === 1 };
  });
}

export function runNotFound(key: { source: string; number: number }): SweepbookError {
  return new SweepbookError(
    'NOT_FOUND',
    `no run ${key.number} (${key.source}) is registered: register it first with registerRuns`,
    { number: key.number, source: key.source },
  );
}
