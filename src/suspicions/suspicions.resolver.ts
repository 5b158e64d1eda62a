import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { may } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { nodeName, readNodeId, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { checkSuspiciousCopy, reportReadFailure } from './reports.service.ts';
import {
  findSuspicion,
  listSuspicions,
  readFailuresOf,
  type ReadFailureRow,
  type SuspicionRow,
} from './suspicions.queries.ts';
import {
  ReadFailure,
  ReportReadFailureInput,
  ReportReadFailurePayload,
  SuspiciousCopyConnection,
  SuspiciousCopyFilter,
  SuspiciousCopyPayload,
  SuspiciousCopyType,
} from './suspicions.schema.ts';

/** What `node` finds; nothing for who may not check copies. */
export async function findSuspicionNode(
  { db, viewer }: Context,
  id: number,
): Promise<object | undefined> {
  if (!may(viewer, 'checkCopies')) return undefined;
  const row = await findSuspicion(db.fork(), viewer, id);
  return row && Object.assign(row, { [nodeName]: 'SuspiciousCopy' as const });
}

async function loadReports(context: Context, ids: readonly number[]): Promise<ReadFailureRow[][]> {
  const found = Map.groupBy(await readFailuresOf(context.db.fork(), ids), (row) => row.suspicionId);
  return ids.map((id) => found.get(id) ?? []);
}

@Resolver(() => SuspiciousCopyType)
export class SuspicionResolver {
  @Query(() => SuspiciousCopyConnection, {
    description: 'Copies that jobs could not read, the newest first. For operators.',
  })
  async suspiciousCopies(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => SuspiciousCopyFilter, { nullable: true, description: 'Which copies.' })
    filter: SuspiciousCopyFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<SuspicionRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listSuspicions(db.fork(), viewer, filter ?? {}, page));
  }

  @Mutation(() => ReportReadFailurePayload, {
    description:
      'Says that a job could not read a copy. When enough different jobs have said so a worker reads it in full; ' +
      'the reports alone decide nothing. NOT_FOUND (no such file, or the URL is no copy of it), RATE_LIMITED.',
  })
  async reportReadFailure(
    @Ctx() { db, viewer, means }: Context,
    @Arg('input', () => ReportReadFailureInput, { description: 'File, copy, error and job.' })
    input: ReportReadFailureInput,
  ) {
    const { stores, suspicionJobs } = means;
    const outcome = await reportReadFailure(db, stores, viewer, input, suspicionJobs);
    means.ring();
    return outcome;
  }

  @Mutation(() => SuspiciousCopyPayload, {
    description:
      'Has a suspicious copy read now, however few jobs reported it. NOT_FOUND. For operators.',
  })
  async checkSuspiciousCopy(
    @Ctx() { db, viewer, means }: Context,
    @Arg('id', () => ID, { description: 'Its id.' }) id: string,
  ) {
    const key = readNodeId(id);
    const wanted = key?.name === 'SuspiciousCopy' ? key.id : undefined;
    const done = await checkSuspiciousCopy(db, viewer, wanted);
    means.ring();
    return { copy: await findSuspicion(db.fork(), viewer, done.id), changed: done.changed };
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() copy: SuspicionRow): string {
    return writeNodeId('SuspiciousCopy', copy.id);
  }

  @FieldResolver(() => [ReadFailure], {
    description: 'What jobs said, the latest first; of 100 jobs at most.',
  })
  async reports(@Ctx() context: Context, @Root() copy: SuspicionRow): Promise<ReadFailureRow[]> {
    return context.load(loadReports, copy.id);
  }
}
