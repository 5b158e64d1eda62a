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
import { countEvents } from '../formats/event-count.ts';
import { checkSource, withNames, withOpened, type OpenSource } from '../storage/check-source.ts';
import { makeComposite } from '../storage/make-composite.ts';
import { rootsOf, type PublishSettings } from '../storage/publish-settings.ts';
import { toolEnvironment } from '../storage/run-tool.ts';

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
    const roots = rootsOf(publish, work.claim.requestedBy);
    const { found, counted } = await withOpened(roots, given, async (source) => ({
      found: await checkSource(source, {
        signal: work.signal,
        onProgress: (bytes) => (work.bytes = before + bytes),
      }),
      counted: await countSource(publish, source, work),
    }));
    work.bytes = before + found.sizeBytes;
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

const attemptFolder = ({ area }: PublishSettings, { id, attempt }: WorkClaim): string =>
  join(area, `p${id}`, `a${attempt}`);

function countPath(
  { countEvents: { argv, tree, seconds } }: PublishSettings,
  path: string,
  { claim, signal }: PublishWork,
  name?: string,
): Promise<{ readonly events: number | null }> {
  const env = toolEnvironment();
  return countEvents(path, {
    command: argv,
    tree: claim.treeName ?? tree,
    seconds,
    env,
    name,
    signal,
  });
}

/**
 * The events of a user's file, by the command of the site or as a ROOT file tells them; null = nobody says. That
 * a file has no tree, or several, is no fault of one that only goes into an archive, unless the user named the tree.
 */
async function countSource(
  publish: PublishSettings,
  source: OpenSource,
  work: PublishWork,
): Promise<number | null> {
  const { claim } = work;
  if (publish.countEvents.argv) {
    const folder = join(attemptFolder(publish, claim), '.count');
    return withNames(folder, [source], async ([name = '']) => {
      return (await countPath(publish, name, work, source.given)).events;
    });
  }
  try {
    return (await countPath(publish, source.place, work, source.given)).events;
  } catch (error) {
    const isUnclear = error instanceof SweepbookError && error.code === 'BAD_USER_INPUT';
    if (isUnclear && !publish.merge && claim.treeName === null) return null;
    throw error;
  }
}

/** What a tool made is counted as what went in was. MERGE_FAILED when it cannot be. */
async function countMerged(
  publish: PublishSettings,
  { path, lfn }: { path: string; lfn: string },
  work: PublishWork,
): Promise<number | null> {
  try {
    return (await countPath(publish, path, work, basename(lfn))).events;
  } catch (error) {
    if (!(error instanceof SweepbookError) || error.code === 'UNAVAILABLE') throw error;
    const why = `what ${publish.merge?.argv[0]} made cannot be counted: ${error.message}`;
    throw new SweepbookError('MERGE_FAILED', why, {}, { cause: error });
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
  const inputs = planned.map((input) => ({ ...input, given: input.path }));
  const made = await makeComposite(publish.merge, inputs, {
    roots: rootsOf(publish, claim.requestedBy),
    folder: attemptFolder(publish, claim),
    name: basename(lfn),
    signal,
    onProgress: (bytes) => (work.bytes = before + Math.min(bytes, inputBytes)),
  });
  work.bytes = before + inputBytes;
  const told = inputs.some((input) => input.eventCount === null)
    ? null
    : inputs.reduce((sum, input) => sum + (input.eventCount ?? 0), 0);
  const eventCount = publish.merge ? await countMerged(publish, { ...made, lfn }, work) : told;
  if (eventCount !== told) {
    throw new SweepbookError(
      'EVENT_COUNT_MISMATCH',
      `${basename(lfn)} has ${eventCount ?? 'uncounted'} events, the ${inputs.length} files that went in have ${told}: ` +
        `the merge with ${publish.merge?.argv[0]} is not complete`,
    );
  }
  await recordComposite(db, claim, number, { ...made, eventCount });
}
