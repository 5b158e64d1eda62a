import { setTimeout as wait } from 'node:timers/promises';
import { Arg, ID, Resolver, Root, Subscription } from 'type-graphql';
import { demand } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { closable } from '../api/subscription.ts';
import { noRequest } from './stage.service.ts';
import { loadStages, stageIdOf, withProgress } from './stages.resolver.ts';
import { StageProgress } from './stages.schema.ts';

/** However fast files come in, the eye needs no more; of a great request it is looked at more rarely. */
const gapMs = 500;

async function look(context: Context, id: number): Promise<StageProgress> {
  const row = await context.load(loadStages, id);
  if (row) return withProgress(context, row);
  throw noRequest(id);
}

/** How it stands now, and again whenever something has changed; ends when nothing is on its way. */
async function* progressOf(
  context: Context,
  id: number,
  signal: AbortSignal,
): AsyncGenerator<StageProgress, void, void> {
  let told = '';
  while (!signal.aborted) {
    const begunAt = Date.now();
    const progress = await look(context, id);
    const now = JSON.stringify(progress);
    if (now !== told) yield progress;
    told = now;
    if (progress.state !== 'RUNNING') return;
    const gap = Math.max(gapMs, 10 * (Date.now() - begunAt));
    await wait(gap, undefined, { signal }).catch(() => undefined);
  }
}

@Resolver()
export class StageProgressResolver {
  @Subscription(() => StageProgress, {
    description:
      'How a stage request comes along: its state now, then about twice a second while something changes; ends when ' +
      'it is no longer RUNNING. NOT_FOUND. For who asked, and operators.',
    subscribe: ({ args, context }) => {
      const { viewer } = context as Context;
      demand(viewer, 'handleStage', viewer.principal);
      const id = stageIdOf((args as { request: string }).request);
      return closable((signal) => progressOf(context as Context, id, signal));
    },
  })
  stageProgress(
    @Root() progress: StageProgress,
    @Arg('request', () => ID, { description: 'Its id or its number.' }) _request: string,
  ): StageProgress {
    return progress;
  }
}
