import type { Command } from 'commander';
import { addVerb, repeated, runs, type Context } from './command.ts';
import { wrongUsage } from './exit-codes.ts';

interface ShareOptions {
  readonly user?: string[];
  readonly group?: string[];
}

const shares = 'sharedWith { kind name sharedBy sharedAt }';

/** Datasets are shown to some before they are published. */
export function addShareCommands(noun: Command): void {
  for (const [verb, field, what] of [
    ['share', 'shareDataset', 'show it to users and groups before it is published'],
    ['unshare', 'unshareDataset', 'end that, at once'],
  ] as const) {
    const command = addVerb(noun, `${verb} <name>`, what)
      .option('--user <name>', 'a user; may be given several times', repeated)
      .option('--group <name>', 'a group; may be given several times', repeated);
    runs<ShareOptions, [string]>(command, change(field));
  }
}

interface Shared {
  readonly changedCount: number;
  readonly dataset: { readonly sharedWith: readonly { kind: string; name: string }[] } | null;
}

function change(field: 'shareDataset' | 'unshareDataset') {
  const query = `mutation Share($input: ShareDatasetInput!) {
    ${field}(input: $input) { changed changedCount dataset { name ${shares} } }
  }`;
  return async (
    { client, output }: Context,
    { user, group }: ShareOptions,
    dataset: string,
  ): Promise<void> => {
    if (user === undefined && group === undefined) throw wrongUsage('name --user or --group');
    const data = await client.call<Record<string, Shared>>(query, {
      input: { dataset, users: user, groups: group },
    });
    const done = data[field];
    const now = done?.dataset?.sharedWith.map(({ kind, name }) => `${kind.toLowerCase()} ${name}`);
    await output.result(
      done,
      `${dataset} is shared with ${now && now.length > 0 ? now.join(', ') : 'nobody'}`,
    );
  };
}
