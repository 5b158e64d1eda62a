import type { Command } from 'commander';
import type { Client } from './client.ts';
import { wholeNumber } from './command.ts';
import { complain } from './print.ts';

export interface Connection<Row> {
  readonly nodes: readonly Row[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

export interface ListOptions {
  readonly limit: number;
  readonly all?: boolean;
}

/** The options of every list. */
export function addListOptions(command: Command): Command {
  return command
    .option('--limit <number>', 'at most so many', wholeNumber, 1000)
    .option('--all', 'everything, without a limit');
}

/** The fields that `paged` needs in each connection. */
export const pageFields = 'pageInfo { hasNextPage endCursor }';

const mostPerPage = 200;

/**
 * The rows of a connection, page after page. The query takes $first and $after; `pick` finds
 * the connection in its answer. Says so on stderr when the limit left something out.
 */
export async function* paged<Data, Row>(
  client: Client,
  query: string,
  variables: Record<string, unknown>,
  pick: (data: Data) => Connection<Row>,
  options: ListOptions,
): AsyncGenerator<Row, void, undefined> {
  let left = options.all ? Infinity : options.limit;
  let after: string | null = null;
  while (left > 0) {
    const first = Math.min(left, mostPerPage);
    const page: Connection<Row> = pick(
      await client.call<Data>(query, { ...variables, first, after }),
    );
    yield* page.nodes;
    left -= page.nodes.length;
    if (!page.pageInfo.hasNextPage || page.nodes.length === 0) return;
    after = page.pageInfo.endCursor;
  }
  if (options.limit > 0) complain(`there are more than ${options.limit}: --all shows everything`);
}
