import type { Context } from './command.ts';
import { exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { progressFields, stateText, type ImportProgress } from './import-facts.ts';
import { complain } from './print.ts';
import { startProgress } from './progress.ts';
import { watchLog } from './watching.ts';

const query = `subscription ImportProgress($import: ID!) {
  importProgress(import: $import) { ${progressFields} }
}`;

/** Follows an import to its end, with a bar. Exit 0 entered, 3 something FAILED, 6 cancelled. */
export async function watchImport(
  context: Context,
  number: number,
  sizeBytes: number,
): Promise<ExitCode> {
  const { output, signal } = context;
  let last: ImportProgress | undefined;
  const bar = startProgress('importing', sizeBytes);
  const take = async ({ importProgress }: { importProgress: ImportProgress }): Promise<boolean> => {
    last = importProgress;
    bar.update(last.fetchedBytes, stateText(last, false));
    return last.status !== 'RUNNING';
  };
  try {
    // What happens while the connection is lost is in the next answer.
    await watchLog(context, { query, variables: () => ({ import: String(number) }), take });
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Interrupted(
      `interrupted; the import goes on: watch it with "sweepbook import watch ${number}"`,
    );
  } finally {
    bar.stop();
  }
  if (!last) return exitCode.failed;
  await output.result(
    { import: number, ...last },
    `import ${number} is ${last.status}: ${stateText(last)}`,
  );
  if (last.status === 'ENTERED') return exitCode.done;
  if (last.status === 'CANCELLED') return exitCode.refused;
  if (last.lastError !== null) complain(last.lastError);
  complain(
    `look at "sweepbook import show ${number} --failed"; then "sweepbook import retry ${number}"`,
  );
  return exitCode.partly;
}
