import { setTimeout as wait } from 'node:timers/promises';
import { Arg, ID, Resolver, Root, Subscription } from 'type-graphql';
import { demand } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { closable } from '../api/subscription.ts';
import { SweepbookError } from '../errors.ts';
import { importIdOf, loadImports, withProgress } from './imports.resolver.ts';
import { ImportProgress } from './imports.schema.ts';

/** However fast files come in, the eye needs no more; and bytes stand in no log. */
const gapMs = 500;

async function look(context: Context, id: number): Promise<ImportProgress> {
  const row = await context.load(loadImports, id);
  if (row) return withProgress(context, row);
  throw new SweepbookError('NOT_FOUND', `no import ${id}: look at "import list"`, { import: id });
}

/** How it stands now, and again whenever something has changed; ends with the import. */
async function* progressOf(
  context: Context,
  id: number,
  signal: AbortSignal,
): AsyncGenerator<ImportProgress, void, void> {
  let told = '';
  while (!signal.aborted) {
    const progress = await look(context, id);
    const now = JSON.stringify(progress);
    if (now !== told) yield progress;
    told = now;
    if (progress.status !== 'RUNNING') return;
    await wait(gapMs, undefined, { signal }).catch(() => undefined);
  }
}

@Resolver()
export class ImportProgressResolver {
  @Subscription(() => ImportProgress, {
    description:
      'How an import comes along: its state now, then about twice a second while something changes; ends when it is ' +
      'no longer RUNNING. NOT_FOUND. For importers (their own) and producers.',
    subscribe: ({ args, context }) => {
      const { viewer } = context as Context;
      demand(viewer, 'readImports', viewer.principal);
      const id = importIdOf((args as { import: string }).import);
      return closable((signal) => progressOf(context as Context, id, signal));
    },
  })
  importProgress(
    @Root() progress: ImportProgress,
    @Arg('import', () => ID, { description: 'Its id or its number.' }) _import: string,
  ): ImportProgress {
    return progress;
  }
}
