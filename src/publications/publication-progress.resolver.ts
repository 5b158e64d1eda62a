import { setTimeout as wait } from 'node:timers/promises';
import { Arg, ID, Resolver, Root, Subscription } from 'type-graphql';
import { demand } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { closable } from '../api/subscription.ts';
import { SweepbookError } from '../errors.ts';
import { loadPublications, publicationIdOf, withProgress } from './publications.resolver.ts';
import { PublicationProgress } from './publications.schema.ts';

/** The eye needs no more; and bytes stand in no log. */
const gapMs = 500;
const over = new Set(['PUBLISHED', 'FAILED', 'WITHDRAWN']);

/** How it stands now, and again whenever something has changed; ends with the publication. */
async function* progressOf(
  context: Context,
  id: number,
  signal: AbortSignal,
): AsyncGenerator<PublicationProgress, void, void> {
  let told = '';
  while (!signal.aborted) {
    const row = await context.load(loadPublications, id);
    if (!row) {
      throw new SweepbookError('NOT_FOUND', `no publication ${id}: look at "publish list"`, {
        publication: id,
      });
    }
    const progress = await withProgress(context, row);
    const now = JSON.stringify(progress);
    if (now !== told) yield progress;
    told = now;
    if (over.has(progress.status)) return;
    await wait(gapMs, undefined, { signal }).catch(() => undefined);
  }
}

@Resolver()
export class PublicationProgressResolver {
  @Subscription(() => PublicationProgress, {
    description:
      'How a publication comes along: its state now, then about twice a second while something changes; ends when it is ' +
      'over. NOT_FOUND. For its owner and operators.',
    subscribe: ({ args, context }) => {
      const { viewer } = context as Context;
      demand(viewer, 'readPublications', viewer.principal);
      const id = publicationIdOf((args as { publication: string }).publication);
      return closable((signal) => progressOf(context as Context, id, signal));
    },
  })
  publicationProgress(
    @Root() progress: PublicationProgress,
    @Arg('publication', () => ID, { description: 'Its id or its number.' }) _publication: string,
  ): PublicationProgress {
    return progress;
  }
}
