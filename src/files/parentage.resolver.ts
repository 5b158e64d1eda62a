import { Arg, Ctx, FieldResolver, Int, Resolver, Root } from 'type-graphql';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { inOrder, type Context } from '../api/context.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { RawBuilder } from '../database/sql.ts';
import { listFiles, mergedInto, type FileRow } from './files.queries.ts';
import { loadFiles } from './files.resolver.ts';
import { FileConnection, FileFilter, FileType } from './files.schema.ts';
import {
  childrenOf,
  inputsOf,
  listRelatives,
  parentsOf,
  type Direction as DirectionName,
  type RelativeRow,
} from './parentage.queries.ts';
import { Direction, Relative, RelativeConnection } from './parentage.schema.ts';

async function loadOutputs(context: Context, ids: readonly number[]) {
  return inOrder(ids, await mergedInto(context.db.fork(), ids), (row) => row.inputId);
}

const filterOptions = { nullable: true, description: 'Which files.' };

@Resolver(() => FileType)
export class ParentageResolver {
  @FieldResolver(() => FileConnection, { description: 'The run files that went into it.' })
  inputs(
    @Ctx() context: Context,
    @Root() file: FileRow,
    @Arg('filter', () => FileFilter, filterOptions) filter: FileFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FileRow>> {
    return related(context, inputsOf(file.id), filter, first, after);
  }

  @FieldResolver(() => FileType, {
    nullable: true,
    description: 'The merged file that it went into.',
  })
  async mergedInto(@Ctx() context: Context, @Root() file: FileRow): Promise<FileRow | undefined> {
    const merge = await context.load(loadOutputs, file.id);
    return merge && context.load(loadFiles, merge.outputId);
  }

  @FieldResolver(() => FileConnection, {
    description: 'The files that it was derived from, as far as you see them.',
  })
  parents(
    @Ctx() context: Context,
    @Root() file: FileRow,
    @Arg('filter', () => FileFilter, filterOptions) filter: FileFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FileRow>> {
    return related(context, parentsOf(file.id), filter, first, after);
  }

  @FieldResolver(() => FileConnection, {
    description: 'The files that were derived from it, as far as you see them.',
  })
  children(
    @Ctx() context: Context,
    @Root() file: FileRow,
    @Arg('filter', () => FileFilter, filterOptions) filter: FileFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FileRow>> {
    return related(context, childrenOf(file.id), filter, first, after);
  }

  @FieldResolver(() => RelativeConnection, {
    description:
      'Its family over several generations in one answer, nearest first, each file once: merges and derivations, ' +
      'as far as you see them without a gap. BAD_USER_INPUT (generations), QUERY_TOO_COMPLEX (more than 20,000 steps).',
  })
  async ancestry(
    @Ctx() { db, viewer }: Context,
    @Root() file: FileRow,
    @Arg('direction', () => Direction, {
      defaultValue: 'ANCESTORS',
      description: 'Which way to go.',
    })
    direction: DirectionName,
    @Arg('generations', () => Int, { defaultValue: 10, description: 'How far, 1 to 10.' })
    generations: number,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<RelativeRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    const asked = { fileId: file.id, direction, generations };
    return toConnection(await listRelatives(db.fork(), viewer, asked, page));
  }
}

async function related(
  { db, viewer }: Context,
  of: RawBuilder<unknown>,
  filter: FileFilter | null,
  first: number | null,
  after: string | null,
): Promise<Connection<FileRow>> {
  const page = { first: checkedFirst(first, pageLimits.files), after };
  return toConnection(await listFiles(db.fork(), viewer, filter ?? {}, page, { of, order: 'LFN' }));
}

@Resolver(() => Relative)
export class RelativeResolver {
  @FieldResolver(() => FileType, { description: 'The file.' })
  file(@Root() relative: RelativeRow): FileRow {
    return relative;
  }
}
