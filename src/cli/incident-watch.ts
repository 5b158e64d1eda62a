import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import { exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { startCounter } from './progress.ts';
import { watchLog } from './watching.ts';

export function addIncidentWatch(noun: Command): void {
  const watch = addVerb(noun, 'watch <incident>', 'how its repair comes along, until it is over');
  runs<object, [string]>(watch, (context, _options, id) => watchIncident(context, id));
}

interface Progress {
  readonly status: string;
  readonly itemCount: number;
  readonly openCount: number;
  readonly restoredCount: number;
  readonly stillLostCount: number;
  readonly hiddenDatasetCount: number;
}

const query = `subscription IncidentProgress($incident: ID!) {
  incidentProgress(incident: $incident) {
    status itemCount openCount restoredCount stillLostCount hiddenDatasetCount
  }
}`;

/**
 * Follows an incident until nobody works on it any more: a line for each state, a bar in between. Exit 0 when
 * all is back, 3 when something is not.
 */
export async function watchIncident(context: Context, incident: string): Promise<ExitCode> {
  const { output, signal } = context;
  let told = '';
  let last: Progress | undefined;
  const bar = startCounter('recovering', 'copies');
  const take = async ({ incidentProgress }: { incidentProgress: Progress }): Promise<boolean> => {
    last = incidentProgress;
    const { status, restoredCount, openCount, stillLostCount } = last;
    bar.update(restoredCount, restoredCount + openCount, `${stillLostCount} lost`);
    if (status !== told) await output.result(last, lineOf(incident, last));
    told = status;
    return status !== 'RECOVERING';
  };
  try {
    // What happens while the connection is lost is in the next answer.
    await watchLog(context, { query, variables: () => ({ incident }), take });
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Interrupted(
      `interrupted; the recovery goes on: watch it with "sweepbook incident watch ${incident}"`,
    );
  } finally {
    bar.stop();
  }
  return last?.openCount === 0 ? exitCode.done : exitCode.partly;
}

function lineOf(incident: string, progress: Progress): string {
  const { status, restoredCount, openCount, stillLostCount, hiddenDatasetCount } = progress;
  return (
    `incident ${incident} is ${status}: ${restoredCount} copies restored, ${openCount} not back, ` +
    `${stillLostCount} lost, ${hiddenDatasetCount} datasets bad`
  );
}
