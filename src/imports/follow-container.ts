import { SweepbookError } from '../errors.ts';
import type { ImportSource } from '../storage/import-sources.ts';
import type { RuleClaim } from './follow-rule.ts';
import type { Departure, Heard } from './follow.service.ts';
import { askForeign, dataOf } from './foreign-server.ts';

interface PageInfo {
  readonly hasNextPage: boolean;
  readonly endCursor: string | null;
}
interface Names {
  readonly nodes: readonly { readonly name: string }[];
  readonly pageInfo: PageInfo;
}

const pageInfo = 'pageInfo { hasNextPage endCursor }';
const markerQuery = 'query ($name: String!) { container(name: $name) { marker } }';
const listQuery = `query ($name: String!, $marker: String, $after: String) { container(name: $name) {
  datasets(marker: $marker, first: 200, after: $after) { nodes { name } ${pageInfo} } } }`;
const changesQuery = `query ($name: String!, $marker: String, $until: String, $came: String, $left: String) {
  container(name: $name) { changedSince(marker: $marker, until: $until) { marker unavailableCount
    added(first: 200, after: $came) { nodes { name } ${pageInfo} }
    removed(first: 200, after: $left) { nodes { name removedAt removedBy removedReason } ${pageInfo} } } } }`;

const mostPages = 500;

/**
 * What has become of a container of the other site since the last look: by its own account of the changes since a
 * marker, which is a cursor of its log; by the whole list at the first look, and when the account does not tell all.
 */
export async function hearContainer(
  source: ImportSource,
  rule: RuleClaim,
  container: string,
): Promise<Heard> {
  const changes =
    rule.cursor === null ? undefined : await changesAfter(source, container, rule.cursor);
  if (changes) return changes;
  const { marker } = await ask<{ marker: string }>(source, container, markerQuery, {});
  const names: string[] = [];
  let after: string | null = null;
  for (let page = 0; ; page++) {
    demandFewer(page, container);
    const { datasets }: { datasets: Names } = await ask(source, container, listQuery, {
      marker,
      after,
    });
    names.push(...namesOf(datasets));
    if (!datasets.pageInfo.hasNextPage) break;
    after = datasets.pageInfo.endCursor;
  }
  return { cursor: marker, names, listedUntil: null, departures: 'all others' };
}

interface Changes {
  readonly changedSince: {
    readonly marker: string;
    readonly unavailableCount: number;
    readonly added: Names;
    readonly removed: {
      readonly nodes: readonly {
        readonly name: string;
        readonly removedAt: string;
        readonly removedBy: string;
        readonly removedReason: string | null;
      }[];
      readonly pageInfo: PageInfo;
    };
  };
}

/** undefined = they are not told in full: the log there is another one, or what left is bad and has no name for us. */
async function changesAfter(
  source: ImportSource,
  container: string,
  marker: string,
): Promise<Heard | undefined> {
  const names: string[] = [];
  const departures: Departure[] = [];
  let asked: Record<string, string | null> = { marker, until: null, came: null, left: null };
  try {
    for (let page = 0; ; page++) {
      demandFewer(page, container);
      const { changedSince }: Changes = await ask<Changes>(source, container, changesQuery, asked);
      const { added, removed, marker: until, unavailableCount } = changedSince;
      if (unavailableCount > 0) return undefined;
      names.push(...namesOf(added));
      departures.push(
        ...removed.nodes.map(({ name, removedAt, removedBy, removedReason }) => ({
          name,
          at: removedAt,
          reason: removedReason ?? `taken out by ${removedBy}`,
        })),
      );
      if (!added.pageInfo.hasNextPage && !removed.pageInfo.hasNextPage) {
        return { cursor: until, names, listedUntil: null, departures };
      }
      asked = {
        marker,
        until,
        came: added.pageInfo.endCursor ?? asked['came'] ?? null,
        left: removed.pageInfo.endCursor ?? asked['left'] ?? null,
      };
    }
  } catch (error) {
    const code = error instanceof SweepbookError ? error.code : '';
    if (code === 'CURSOR_TOO_OLD' || code === 'INVALID_CURSOR') return undefined;
    throw error;
  }
}

const namesOf = ({ nodes }: Names): string[] => nodes.map(({ name }) => name.slice(0, 200));

async function ask<Data>(
  source: ImportSource,
  name: string,
  query: string,
  variables: Record<string, unknown>,
): Promise<Data> {
  const answer = await askForeign<{ container: Data | null }>(source, query, {
    name,
    ...variables,
  });
  const { container } = dataOf(source, answer);
  if (container) return container;
  throw new SweepbookError('NOT_FOUND', `site ${source.site} has no container ${name}`, {
    site: source.site,
    container: name,
  });
}

/** What is listed in part only must not be taken for all. */
export function demandFewer(page: number, what: string): void {
  if (page < mostPages) return;
  throw new SweepbookError(
    'LIMIT_REACHED',
    `${what}: more than ${mostPages * 200} datasets: make several rules that match fewer`,
  );
}
