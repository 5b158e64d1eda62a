import type { Viewer } from '../access/policy.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import { sourceOf, type ImportSource } from '../storage/import-sources.ts';
import {
  enteredAfter,
  recordBegun,
  recordHeard,
  recordVerdict,
  waitingNames,
  type FollowedState,
} from './follow.service.ts';
import { demandFewer, hearContainer } from './follow-container.ts';
import type { RuleClaim } from './follow-rule.ts';
import { askForeign, dataOf, type ForeignError } from './foreign-server.ts';
import { importDataset } from './import-dataset.service.ts';
import { mirrorContainer } from './mirror.service.ts';
import type { Receiving } from './receive.service.ts';

interface EventPage {
  events: {
    nodes: { kind: string; toState: string | null }[];
    pageInfo: { hasNextPage: boolean; endCursor: string | null };
  };
}

const eventsQuery = `query ($after: String) {
  events(filter: { kind: [DATASET_STATUS, DATASET_CLEARED] }, first: 200, after: $after) {
    nodes { kind toState } pageInfo { hasNextPage endCursor }
  }
}`;
const lastQuery = `{ events(filter: { kind: [DATASET_STATUS, DATASET_CLEARED] }, orderBy: NEWEST_FIRST, first: 1) {
  nodes { kind toState } pageInfo { hasNextPage endCursor } } }`;
const listQuery = `query ($filter: DatasetFilter, $after: String) {
  datasets(filter: $filter, first: 200, after: $after) { nodes { name } pageInfo { hasNextPage endCursor } }
}`;

interface ListPage {
  datasets: {
    nodes: { name: string }[];
    pageInfo: { hasNextPage: boolean; endCursor: string | null };
  };
}

/** What is heard in one look; a site that tells more is heard on in the next. */
const mostEventPages = 100;
const mostRunning = 20;
/** Clocks differ, and a line of the log can be older than its place. */
const overlapMs = 3_600_000;
const namesAtOnce = 40;

/**
 * One look at what a rule follows: whether anything was closed there, or came into a container and left it, since the
 * last look (by the cursor of the other site's log), what matches, imports for that, and what its site says of what was imported. Ends early when the other
 * site is away (UNAVAILABLE): the next look goes on.
 */
export async function lookAt(means: Receiving, rule: RuleClaim): Promise<void> {
  try {
    await lookThere(means, rule);
  } catch (error) {
    // What has come meanwhile is listed, whether its site can be heard or not.
    await mirrorContainer(means.db, rule, false);
    throw error;
  }
  await mirrorContainer(means.db, rule, true);
}

async function lookThere(means: Receiving, rule: RuleClaim): Promise<void> {
  const source = sourceOf(means.imports, rule.site);
  await hear(means, source, rule);
  const viewer: Viewer = { principal: rule.createdBy, roles: ['IMPORTER'] };
  for (const name of await waitingNames(means.db, rule, mostRunning)) {
    await begin(means, viewer, rule, name);
  }
  for (let after = ''; ;) {
    const entered = await enteredAfter(means.db, rule, after, namesAtOnce);
    const last = entered.at(-1);
    if (!last) return;
    after = last.name;
    await compareVerdicts(means, source, rule, entered);
  }
}

async function hear(means: Receiving, source: ImportSource, rule: RuleClaim): Promise<void> {
  if (rule.filter.container != null) {
    const heard = await hearContainer(source, rule, rule.filter.container);
    await recordHeard(means.db, rule, heard);
    return;
  }
  const news = rule.cursor === null ? undefined : await newsAfter(source, rule.cursor);
  if (news && !news.isNew) {
    await recordHeard(means.db, rule, { cursor: news.cursor, names: [], listedUntil: null });
    return;
  }
  // The place first, then the list: what is closed in between is listed, and heard of again.
  const cursor = news?.cursor ?? (await lastPlace(source));
  const begunAt = new Date();
  const since =
    news && rule.listedUntil ? new Date(rule.listedUntil.getTime() - overlapMs) : undefined;
  const names = await listNames(source, rule, since);
  await recordHeard(means.db, rule, { cursor, names, listedUntil: begunAt });
}

/** Whether datasets were closed or cleared there since; undefined = the other log is another one, all is to be listed. */
async function newsAfter(
  source: ImportSource,
  after: string,
): Promise<{ isNew: boolean; cursor: string } | undefined> {
  let cursor = after;
  let isNew = false;
  try {
    for (let page = 0; page < mostEventPages; page++) {
      const { events } = dataOf(
        source,
        await askForeign<EventPage>(source, eventsQuery, { after: cursor }),
      );
      isNew ||= events.nodes.some(
        (event) => event.kind === 'DATASET_CLEARED' || event.toState === 'CLOSED',
      );
      cursor = events.pageInfo.endCursor ?? cursor;
      if (!events.pageInfo.hasNextPage) break;
    }
    return { isNew, cursor };
  } catch (error) {
    const code = error instanceof SweepbookError ? error.code : '';
    if (code === 'CURSOR_TOO_OLD' || code === 'INVALID_CURSOR') return undefined;
    throw error;
  }
}

async function lastPlace(source: ImportSource): Promise<string | null> {
  const { events } = dataOf(source, await askForeign<EventPage>(source, lastQuery, {}));
  return events.pageInfo.endCursor;
}

async function listNames(
  source: ImportSource,
  { filter }: RuleClaim,
  since: Date | undefined,
): Promise<string[]> {
  const names: string[] = [];
  let after: string | null = null;
  for (let page = 0; ; page++) {
    demandFewer(page, 'what matches');
    const variables: Record<string, unknown> = {
      filter: { ...filter, ...(since ? { closedAt: { gte: since.toISOString() } } : {}) },
      after,
    };
    const { datasets }: ListPage = dataOf(
      source,
      await askForeign<ListPage>(source, listQuery, variables),
    );
    names.push(...datasets.nodes.map((dataset) => dataset.name.slice(0, 200)));
    if (!datasets.pageInfo.hasNextPage) break;
    after = datasets.pageInfo.endCursor;
  }
  return names;
}

async function begin(
  means: Receiving,
  viewer: Viewer,
  rule: RuleClaim,
  dataset: string,
): Promise<void> {
  const { db } = means;
  try {
    const received = await importDataset(means, viewer, {
      from: rule.site,
      dataset,
      store: rule.store,
      dryRun: false,
    });
    const isOther = received.import === null;
    await recordBegun(db, rule, dataset, {
      importId: received.import,
      ...(isOther
        ? { code: 'DUPLICATE', message: 'it is here already, and was not imported' }
        : {}),
    });
  } catch (error) {
    const code = error instanceof SweepbookError ? error.code : 'INTERNAL';
    if (['UNAVAILABLE', 'RATE_LIMITED', 'NO_SPACE', 'INTERNAL'].includes(code)) throw error;
    await recordBegun(db, rule, dataset, { importId: null, code, message: messageOf(error) });
  }
}

/** Asks for each by its name: of one that is bad its site says so and why, to everybody. */
async function compareVerdicts(
  means: Receiving,
  source: ImportSource,
  rule: RuleClaim,
  entered: readonly FollowedState[],
): Promise<void> {
  const variables = Object.fromEntries(entered.map(({ name }, at) => [`n${at}`, name]));
  const query = `query (${entered.map((_, at) => `$n${at}: String!`).join(', ')}) {
    ${entered.map((_, at) => `d${at}: dataset(name: $n${at}) { name }`).join('\n')} }`;
  const answer = await askForeign<Record<string, unknown>>(source, query, variables);
  for (const error of answer.errors) {
    // A refusal of the whole question says nothing of any dataset.
    if (error.extensions?.code !== 'DATASET_BAD') dataOf(source, answer);
  }
  const bad = new Map(
    answer.errors.map((error) => [
      String(error.path?.[0]),
      {
        reason: reasonOf(error),
        isLoss: error.extensions?.facts?.['incident'] !== undefined,
      },
    ]),
  );
  for (const [at, state] of entered.entries()) {
    const isGone = answer.data?.[`d${at}`] === null && !bad.has(`d${at}`);
    const verdict = isGone
      ? { reason: 'it is not shown there any more', isLoss: true }
      : bad.get(`d${at}`);
    if (state.badReason === (verdict?.reason ?? null)) continue;
    await recordVerdict(means.db, rule, state, verdict);
  }
}

function reasonOf({ message, extensions }: ForeignError): string {
  const reason = extensions?.facts?.['reason'];
  return typeof reason === 'string' ? reason : message;
}
