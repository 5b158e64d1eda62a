import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode, type ExitCode } from './exit-codes.ts';
import { humanBytes } from './table.ts';

export function addStoreCommands(program: Command): void {
  const noun = addNoun(program, 'store', 'mass stores, where the backups are');
  runs(addVerb(noun, 'list', 'all mass stores'), listStores);
  runs<object, [string | undefined]>(
    addVerb(noun, 'check [name]', 'whether a store can be used now; the default one if not named'),
    checkStore,
  );
}

interface Store {
  readonly name: string;
  readonly kind: string;
  readonly site: string;
  readonly root: string | null;
  readonly isDefault: boolean;
  readonly isUp: boolean;
  readonly detail: string;
  readonly freeBytes: number | null;
}

const query = `query Stores {
  massStores { name kind site root isDefault isUp detail freeBytes accessUrlPrefix }
}`;

async function readStores({ client }: Context): Promise<readonly Store[]> {
  return (await client.call<{ massStores: readonly Store[] }>(query)).massStores;
}

async function listStores(context: Context): Promise<void> {
  await context.output.list(await readStores(context), [
    { title: 'NAME', value: (store) => store.name + (store.isDefault ? ' (default)' : '') },
    { title: 'KIND', value: (store) => store.kind },
    { title: 'SITE', value: (store) => store.site },
    { title: 'STATE', value: (store) => (store.isUp ? 'up' : 'down') },
    { title: 'FREE', value: (store) => humanBytes(store.freeBytes), align: 'right' },
    { title: 'ROOT', value: (store) => store.root },
    { title: 'DETAIL', value: (store) => store.detail },
  ]);
}

async function checkStore(
  context: Context,
  _options: object,
  name: string | undefined,
): Promise<ExitCode> {
  const stores = await readStores(context);
  const store = stores.find((each) => (name === undefined ? each.isDefault : each.name === name));
  if (!store) {
    const known = stores.map((each) => each.name).join(', ') || 'none';
    throw new CliError(exitCode.notFound, `mass store ${name ?? '(default)'}: there are ${known}`);
  }
  const free = store.freeBytes === null ? '' : `, ${humanBytes(store.freeBytes)} free`;
  await context.output.result(
    store,
    `${store.name} is ${store.isUp ? 'up' : 'down'}: ${store.detail}${free}`,
  );
  return store.isUp ? exitCode.done : exitCode.failed;
}
