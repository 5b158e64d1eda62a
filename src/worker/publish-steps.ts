import { basename, join } from 'node:path';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { SweepbookError } from '../errors.ts';
import {
  compositesToMake,
  inputsOf,
  recordComposite,
  registerComposites,
  type CompositeToMake,
} from '../publications/merge.service.ts';
import {
  filesToCheck,
  planComposites,
  recordFindings,
  type FileFinding,
  type FileToCheck,
  type WorkClaim,
} from '../publications/work.service.ts';
import { checkSource, realSource } from '../storage/check-source.ts';
import { countEvents, makeComposite } from '../storage/make-composite.ts';
import { rootsOf, type PublishSettings } from '../storage/publish-settings.ts';

export interface PublishMeans {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly publish: PublishSettings;
  readonly site: string;
}

/** A publication in hand; `bytes` is for the eye. */
export interface PublishWork {
  readonly claim: WorkClaim;
  readonly signal: AbortSignal;
  bytes: number;
}

const filesAtOnce = 50;

/** Reads every file through, a batch at a time: what was checked is not checked again by a later attempt. */
export async function checkFiles(means: PublishMeans, work: PublishWork): Promise<void> {
  const { db, publish } = means;
  for (;;) {
    const files = await filesToCheck(db, work.claim, filesAtOnce);
    if (files.length === 0) break;
    const findings: FileFinding[] = [];
    for (const file of files) findings.push(await checkFile(publish, file, work));
    await recordFindings(db, work.claim, findings);
  }
  await planComposites(db, work.claim, publish);
}

async function checkFile(
  publish: PublishSettings,
  { id, path: given, toldEvents }: FileToCheck,
  work: PublishWork,
): Promise<FileFinding> {
  const before = work.bytes;
  try {
    const { path, ...found } = await checkSource(rootsOf(publish, work.claim.requestedBy), given, {
      signal: work.signal,
      onProgress: (bytes) => (work.bytes = before + bytes),
    });
    work.bytes = before + found.sizeBytes;
    const counted = await countEvents(publish, path, work.signal);
    if (counted !== null && toldEvents !== null && counted !== toldEvents) {
      throw new SweepbookError(
        'EVENT_COUNT_MISMATCH',
        `${given} has ${counted} events, and ${toldEvents} were told`,
      );
    }
    return { id, ...found, eventCount: counted ?? toldEvents };
  } catch (error) {
    work.signal.throwIfAborted();
    // A fault of this file; what is none of it is tried again.
    if (!(error instanceof SweepbookError) || error.code === 'UNAVAILABLE') throw error;
    return { id, code: error.code, fault: error.message };
  }
}

/** Makes each composite file that no earlier attempt has made; then all are registered. */
export async function mergeFiles(means: PublishMeans, work: PublishWork): Promise<void> {
  const { db, jobs, publish, site } = means;
  for (const composite of await compositesToMake(db, work.claim)) {
    await mergeOne(means, composite, work);
  }
  work.signal.throwIfAborted();
  await registerComposites(db, jobs, work.claim, { site, volume: publish.volume });
}

async function mergeOne(
  { db, publish }: PublishMeans,
  { number, lfn, inputBytes }: CompositeToMake,
  work: PublishWork,
): Promise<void> {
  const { claim, signal } = work;
  const before = work.bytes;
  const planned = await inputsOf(db, claim, number);
  const roots = rootsOf(publish, claim.requestedBy);
  const inputs = await Promise.all(
    planned.map(async (input) => ({
      ...input,
      given: input.path,
      path: await realSource(roots, input.path),
    })),
  );
  const made = await makeComposite(publish.merge, inputs, {
    folder: join(publish.area, `p${claim.id}`, `a${claim.attempt}`),
    name: basename(lfn),
    signal,
    onProgress: (bytes) => (work.bytes = before + Math.min(bytes, inputBytes)),
  });
  work.bytes = before + inputBytes;
  const told = inputs.some((input) => input.eventCount === null)
    ? null
    : inputs.reduce((sum, input) => sum + (input.eventCount ?? 0), 0);
  const eventCount = publish.merge ? await countEvents(publish, made.path, signal) : told;
  if (eventCount !== told) {
    throw new SweepbookError(
      'EVENT_COUNT_MISMATCH',
      `${basename(lfn)} has ${eventCount ?? 'uncounted'} events, the ${inputs.length} files that went in have ${told}: ` +
        `the merge with ${publish.merge?.argv[0]} is not complete`,
    );
  }
  await recordComposite(db, claim, number, { ...made, eventCount });
}
