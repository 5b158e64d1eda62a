import { badInput, SweepbookError } from '../errors.ts';

/** What a line of a container's history tells. The same list stands in migrations/0010_containers.sql. */
export const containerChangeKinds = ['ADDED', 'REMOVED', 'MARKED_BAD', 'CLEARED'] as const;
export type ContainerChangeKind = (typeof containerChangeKinds)[number];

export const mostDatasetsPerCall = 10_000;
/** Names that a refusal tells; the rest is counted. */
const mostTold = 20;

/** What the rules look at of a dataset that is to come in. */
export interface Candidate {
  readonly id: number;
  readonly name: string;
  readonly status: string;
  readonly isBad: boolean;
}

/** The names of a call, each once. */
export function checkDatasetNames(names: readonly string[]): string[] {
  if (names.length > mostDatasetsPerCall) {
    throw badInput('datasets', names.length, `at most ${mostDatasetsPerCall} datasets in one call`);
  }
  return [...new Set(names)];
}

/** All that were named are there, as far as the viewer may know. */
export function demandAllFound(
  names: readonly string[],
  found: readonly { readonly name: string }[],
): void {
  const known = new Set(found.map((dataset) => dataset.name));
  const missing = names.filter((name) => !known.has(name));
  if (missing.length === 0) return;
  throw new SweepbookError(
    'NOT_FOUND',
    `${missing.length} of ${names.length} datasets are not there, ${missing[0]} for one: ` +
      'look at "dataset list", names are case-sensitive',
    { count: missing.length, first: missing.slice(0, mostTold) },
  );
}

/** Only what is CLOSED and good comes in; all or nothing. */
export function demandListable(datasets: readonly Candidate[]): void {
  const open = datasets.filter((dataset) => dataset.status !== 'CLOSED');
  if (open[0]) {
    throw new SweepbookError(
      'DATASET_NOT_CLOSED',
      `${open.length} of ${datasets.length} datasets are not closed, ${open[0].name} is ${open[0].status} for one: ` +
        'a container lists closed datasets; close them first',
      { count: open.length, first: namesOf(open) },
    );
  }
  const bad = datasets.filter((dataset) => dataset.isBad);
  if (bad[0]) {
    throw new SweepbookError(
      'DATASET_BAD',
      `${bad.length} of ${datasets.length} datasets are marked bad, ${bad[0].name} for one: ` +
        'leave them out, or wait until they are cleared',
      { count: bad.length, first: namesOf(bad) },
    );
  }
}

const namesOf = (datasets: readonly Candidate[]) =>
  datasets.slice(0, mostTold).map((dataset) => dataset.name);

/** The version the caller saw must still be the present one. */
export function expectContainerVersion(
  container: { readonly name: string; readonly version: number },
  expected: number | null | undefined,
): void {
  if (expected == null || expected === container.version) return;
  throw new SweepbookError(
    'STALE_VERSION',
    `container ${container.name} is at version ${container.version}, not ${expected}: read it again, then decide`,
    { container: container.name, version: container.version, expectedVersion: expected },
  );
}

/** What a container may be called: as datasets are. */
export function checkContainerName(name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$/.test(name)) {
    throw badInput(
      'name',
      name,
      '1 to 200 letters, digits and . _ : / + = @ -, the first a letter or digit',
    );
  }
}

const longestReason = 2000;

/** Why something came in may be left open; if it is said, it has a length. */
export function checkedReason(reason: string | null | undefined): string | undefined {
  const text = reason?.trim() ?? '';
  if (text.length > longestReason) {
    throw badInput('reason', text, `at most ${longestReason} characters: it stays in the history`);
  }
  return text === '' ? undefined : text;
}
