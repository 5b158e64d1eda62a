import type { Context } from './command.ts';
import { exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { complain } from './print.ts';
import { startProgress } from './progress.ts';
import { progressFields, stateText, type PublicationProgress } from './publish-facts.ts';
import { watchLog } from './watching.ts';

const query = `subscription PublicationProgress($publication: ID!) {
  publicationProgress(publication: $publication) { ${progressFields} }
}`;
const over = new Set(['PUBLISHED', 'FAILED', 'WITHDRAWN']);
const verbs: Readonly<Record<string, string>> = {
  CHECKING: 'checking',
  MERGING: 'merging',
  BACKING_UP: 'backing up',
};

/** Follows a publication to its end, with a bar. Exit 0 published, 1 it FAILED, 6 withdrawn. */
export async function watchPublication(
  context: Context,
  number: number,
  sizeBytes: number,
): Promise<ExitCode> {
  const { output, signal } = context;
  let last: PublicationProgress | undefined;
  let told: string | null = null;
  let bar = startProgress('publishing', sizeBytes);
  const take = async ({
    publicationProgress: now,
  }: {
    publicationProgress: PublicationProgress;
  }): Promise<boolean> => {
    if (now.status !== last?.status) {
      bar.stop();
      bar = startProgress(verbs[now.status] ?? 'publishing', now.sizeBytes || sizeBytes);
    }
    last = now;
    bar.update(now.doneBytes, stateText(now));
    if (!over.has(now.status) && now.lastError !== null && now.lastError !== told) {
      told = now.lastError;
      complain(`not yet: ${told}`);
    }
    return over.has(now.status);
  };
  try {
    // What happens while the connection is lost is in the next answer.
    await watchLog(context, { query, variables: () => ({ publication: String(number) }), take });
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Interrupted(
      `interrupted; the publication goes on: watch it with "sweepbook publish watch ${number}", ` +
        `call it off with "sweepbook publish withdraw ${number}"`,
    );
  } finally {
    bar.stop();
  }
  if (!last) return exitCode.failed;
  await output.result(
    { publication: number, ...last },
    `publication ${number} is ${last.status}: ${stateText(last)}`,
  );
  if (last.status === 'PUBLISHED') return exitCode.done;
  if (last.status === 'WITHDRAWN') return exitCode.refused;
  if (last.lastError !== null) complain(last.lastError);
  complain(
    last.faulty > 0
      ? `mend these files (sweepbook publish show ${number} --faults), then publish again`
      : 'nothing of it is left on disk: mend this, then publish again',
  );
  return exitCode.failed;
}
