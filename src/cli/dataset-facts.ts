import type { Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { paged, pageFields, type Connection, type ListOptions } from './pages.ts';

export const datasetKinds = ['PR', 'SP', 'SKIM', 'IMPORT', 'USER'];

/** There is none of this name, or none that we may see: the server does not tell which. */
export function noDataset(name: string): CliError {
  return new CliError(
    exitCode.notFound,
    `dataset ${name}: there is none that you may see (until it is CLOSED only its owner and production do)`,
    'NOT_FOUND',
  );
}

/** A line of the log. */
export interface EventRow {
  readonly cursor: string;
  readonly kind: string;
  readonly actor: string;
  readonly reason: string | null;
  readonly occurredAt: string;
  readonly fromState: string | null;
  readonly toState: string | null;
  readonly facts: Readonly<Record<string, unknown>>;
}

const historyQuery = `query History($name: String!, $first: Int!, $after: String) {
  dataset(name: $name) {
    history(first: $first, after: $after) {
      nodes { cursor kind actor reason occurredAt fromState toState facts } ${pageFields}
    }
  }
}`;

/** The history of a dataset, oldest first, from after a cursor if one is given. */
export function historyOf(
  { client }: Context,
  name: string,
  options: ListOptions,
): AsyncGenerator<EventRow, void, undefined> {
  const pick = ({ dataset }: { dataset: { history: Connection<EventRow> } | null }) => {
    if (dataset === null) throw noDataset(name);
    return dataset.history;
  };
  return paged(client, historyQuery, { name }, pick, options);
}
