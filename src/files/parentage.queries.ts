import { may, type Viewer } from '../access/policy.ts';
import { visibleFile } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { firstRow, sql, type RawBuilder } from '../database/sql.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { fileColumns, fileTables, type FileRow } from './files.queries.ts';

export const directions = ['ANCESTORS', 'DESCENDANTS'] as const;
export type Direction = (typeof directions)[number];

/** A file that stands so many generations away. */
export interface RelativeRow extends FileRow {
  readonly generation: number;
}

export const mostGenerations = 10;
/** Steps of one walk; a family that is larger is asked for generation by generation. */
const mostSteps = 20_000;

export interface Relatives {
  readonly fileId: number;
  readonly direction: Direction;
  readonly generations: number;
}

/** Condition on files f: those that the merged file was made of; `fileId` is a number or a column. */
export const inputsOf = (fileId: unknown): RawBuilder<unknown> =>
  sql`f.id in (select mi.input_file_id from merge_inputs mi join merges m on m.id = mi.merge_id
    where m.output_file_id = ${fileId})`;
export const parentsOf = (fileId: unknown): RawBuilder<unknown> =>
  sql`f.id in (select parent_id from file_parents where file_id = ${fileId})`;
export const childrenOf = (fileId: unknown): RawBuilder<unknown> =>
  sql`f.id in (select file_id from file_parents where parent_id = ${fileId})`;

/** One generation on from w: inputs of the merge and parents, or what it went into and children. */
function nextOf(viewer: Viewer, direction: Direction): RawBuilder<unknown> {
  const derived =
    direction === 'ANCESTORS'
      ? sql`select p.parent_id as id from file_parents p where p.file_id = w.id`
      : sql`select p.file_id from file_parents p where p.parent_id = w.id`;
  // Inputs of merges are run files: production's alone.
  if (!may(viewer, 'readProduction')) return derived;
  const merged =
    direction === 'ANCESTORS'
      ? sql`select mi.input_file_id from merges m join merge_inputs mi on mi.merge_id = m.id
          where m.output_file_id = w.id`
      : sql`select m.output_file_id from merge_inputs mi join merges m on m.id = mi.merge_id
          where mi.input_file_id = w.id`;
  return sql`${derived} union all ${merged}`;
}

/**
 * The walk, step by step, over files that the viewer sees and no further: what stands behind one that he does
 * not see is not shown either. It is read up to the limit only, so it is not walked beyond.
 */
function walk(viewer: Viewer, { fileId, direction, generations }: Relatives): RawBuilder<unknown> {
  return sql`with recursive walk (id, generation) as (
      select ${fileId}::bigint, 0
      union
      select f.id, w.generation + 1
      from walk w cross join lateral (${nextOf(viewer, direction)}) n (id) join files f on f.id = n.id
      where w.generation < ${generations}::integer and ${visibleFile(viewer)})
    select id, generation from walk limit ${mostSteps + 1}`;
}

/** The family of a file up to so many generations, nearest first, each file once at its nearest. QUERY_TOO_COMPLEX. */
export async function listRelatives(
  db: Db,
  viewer: Viewer,
  asked: Relatives,
  page: PageArguments,
): Promise<Page<RelativeRow>> {
  const { generations, direction } = asked;
  if (!Number.isInteger(generations) || generations < 1 || generations > mostGenerations) {
    throw badInput('generations', generations, `1 to ${mostGenerations}`);
  }
  const family = sql`(select id, min(generation) as generation, sum(count(*)) over () as steps
    from (${walk(viewer, asked)}) steps group by id) a`;
  const found = await readPage<RelativeRow & { steps: number }>(
    db,
    {
      order: `relatives:${direction.toLowerCase()}`,
      keys: [
        { sql: sql`a.generation`, type: 'bigint' },
        { sql: sql`f.lfn`, type: 'text' },
      ],
      select: sql`${fileColumns}, a.generation, a.steps`,
      from: sql`${family} join ${fileTables} on f.id = a.id`,
      where: sql`a.generation > 0`,
    },
    page,
  );
  if (found.edges.some(({ node }) => node.steps > mostSteps)) throw tooLarge(generations);
  return {
    ...found,
    total: async () => {
      const row = await firstRow(
        db,
        sql<{
          n: number;
          steps: number;
        }>`select count(*) - 1 as n, max(a.steps) as steps from ${family}`,
      );
      if (!row || row.steps > mostSteps) throw tooLarge(generations);
      return row.n;
    },
  };
}

function tooLarge(generations: number): SweepbookError {
  return new SweepbookError(
    'QUERY_TOO_COMPLEX',
    `within ${generations} generations there are more than ${mostSteps} files: ask for fewer, or for inputs, parents and children in pages`,
    { what: 'files', most: mostSteps },
  );
}
