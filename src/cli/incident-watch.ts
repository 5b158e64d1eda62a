import type { Command } from 'commander';
import { pause } from './client.ts';
import { addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { startCounter } from './progress.ts';
import { subscribe } from './subscribe.ts';

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

const againMs = 2000;

/**
 * Follows an incident until nobody works on it any more: a line for each state, a bar in between. Exit 0 when
 * all is back, 3 when something is not.
 */
export async function watchIncident(context: Context, incident: string): Promise<ExitCode> {
  const { client, output, signal } = context;
  let told = '';
  let last: Progress | undefined;
  const bar = startCounter('recovering', 'copies');
  try {
    while (!signal.aborted) {
      const connection = subscribe<{ incidentProgress: Progress }>(client.settings, query, {
        incident,
      });
      signal.addEventListener('abort', () => connection.dispose(), { once: true });
      try {
        for await (const { data, errors } of connection.items) {
          if (errors?.[0]) throw refused(errors[0]);
          if (!data) continue;
          last = data.incidentProgress;
          const { restoredCount, openCount, stillLostCount } = last;
          bar.update(restoredCount, restoredCount + openCount, `${stillLostCount} lost`);
          if (last.status !== told) await output.result(last, lineOf(incident, last));
          told = last.status;
          if (last.status !== 'RECOVERING') return endOf(last);
        }
        if (last && last.status !== 'RECOVERING') return endOf(last);
      } catch (error) {
        if (error instanceof CliError) throw error;
        // The connection is lost: what happens meanwhile is in the next answer.
      } finally {
        connection.dispose();
      }
      await pause(againMs, signal);
    }
    throw new Interrupted();
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    throw new Interrupted(
      `interrupted; the recovery goes on: watch it with "sweepbook incident watch ${incident}"`,
    );
  } finally {
    bar.stop();
  }
}

function refused(error: {
  message: string;
  extensions?: Readonly<Record<string, unknown>>;
}): CliError {
  const code = error.extensions?.['code'];
  const exit = code === 'NOT_FOUND' ? exitCode.notFound : exitCode.refused;
  return new CliError(exit, error.message, typeof code === 'string' ? code : undefined);
}

const endOf = (progress: Progress): ExitCode =>
  progress.openCount === 0 ? exitCode.done : exitCode.partly;

function lineOf(incident: string, progress: Progress): string {
  const { status, restoredCount, openCount, stillLostCount, hiddenDatasetCount } = progress;
  return (
    `incident ${incident} is ${status}: ${restoredCount} copies restored, ${openCount} not back, ` +
    `${stillLostCount} lost, ${hiddenDatasetCount} datasets bad`
  );
}
