import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import type { ExitCode } from './exit-codes.ts';
import { watchIncident } from './incident-watch.ts';

export function addIncidentChanges(noun: Command): void {
  const recover = addVerb(noun, 'recover <incident>', 'bring back what can be brought back')
    .option('--volume <name>', 'restage to this volume; to where they were if not given')
    .option('--from <path>', 'beginning of the paths that is replaced …')
    .option('--to <path>', '… by this one')
    .option('--wait', 'show how it comes along, until it is over');
  runs<RecoverOptions, [string]>(recover, recoverIncident);
  const undo = addVerb(noun, 'undo <incident>', 'a wrong volume was named: all is as it was');
  runs<EndOptions, [string]>(
    undo.requiredOption('--reason <text>', 'why'),
    (context, options, id) => end(context, 'undoIncident', id, options.reason),
  );
  const resolve = addVerb(noun, 'resolve <incident>', 'close it: what is not back stays lost');
  runs<EndOptions, [string]>(
    resolve.requiredOption('--reason <text>', 'why'),
    (context, options, id) => end(context, 'resolveIncident', id, options.reason),
  );
}

interface RecoverOptions {
  readonly volume?: string;
  readonly from?: string;
  readonly to?: string;
  readonly wait?: boolean;
}

interface EndOptions {
  readonly reason: string;
}

interface Payload {
  readonly changed: boolean;
  readonly incident: {
    readonly number: number;
    readonly status: string;
    readonly openCount: number;
    readonly stillLostCount: number;
    readonly hiddenDatasetCount: number;
  };
}

const fields = `changed incident { number status itemCount openCount restoredCount stillLostCount hiddenDatasetCount }`;

async function say({ output }: Context, { changed, incident }: Payload): Promise<void> {
  const { number, status, openCount, stillLostCount, hiddenDatasetCount } = incident;
  await output.result(
    { ...incident, changed },
    `incident ${number} is ${changed ? '' : 'already '}${status}: ${openCount} copies not back, ` +
      `${stillLostCount} lost, ${hiddenDatasetCount} datasets bad`,
  );
}

async function recoverIncident(
  context: Context,
  options: RecoverOptions,
  incident: string,
): Promise<ExitCode | undefined> {
  const { volume, from: pathFrom, to: pathTo } = options;
  const input = { incident, volume, pathFrom, pathTo };
  const data = await context.client.call<{ recoverIncident: Payload }>(
    `mutation Recover($input: RecoverIncidentInput!) { recoverIncident(input: $input) { ${fields} } }`,
    { input },
  );
  await say(context, data.recoverIncident);
  return options.wait ? watchIncident(context, incident) : undefined;
}

async function end(
  context: Context,
  field: 'undoIncident' | 'resolveIncident',
  incident: string,
  reason: string,
): Promise<void> {
  const data = await context.client.call<Record<typeof field, Payload>>(
    `mutation End($input: EndIncidentInput!) { ${field}(input: $input) { ${fields} } }`,
    { input: { incident, reason } },
  );
  await say(context, data[field]);
}
