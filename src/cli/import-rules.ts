import type { Command } from 'commander';
import { addVerb, runs, wordsOf, type Context } from './command.ts';
import { datasetKinds } from './dataset-facts.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';

interface FollowOptions {
  readonly names?: string;
  readonly kind?: string[];
  readonly stream?: string;
  readonly release?: string;
  readonly container?: string;
  readonly as?: string;
  readonly store?: string;
}

/** Standing rules: `import follow`, `import rules`, `import look`, `import unfollow`. */
export function addRuleCommands(noun: Command): void {
  const follow = addVerb(
    noun,
    'follow <site>',
    'import whatever matches from this site, now and from now on',
  )
    .option('--names <pattern>', 'datasets of such names (* and ?)')
    .option('--kind <kinds>', `${datasetKinds.join(', ')} or all`, wordsOf(datasetKinds))
    .option('--stream <name>', 'of this stream')
    .option('--release <name>', 'of this release')
    .option(
      '--container <name>',
      'what this container lists there, and keep it here; without any other condition',
    )
    .option('--as <name>', 'what that container is called here, if not the same')
    .option('--store <name>', 'mass store to back up in; the default one if not given');
  runs<FollowOptions, [string]>(follow, followSite);
  const list = addVerb(noun, 'rules', 'the standing rules').option(
    '--datasets <rule>',
    'what this one has found',
  );
  runs<ListOptions & { datasets?: string }>(addListOptions(list), listRules);
  runs<object, [string]>(
    addVerb(noun, 'look <rule>', 'look at once, and try again what could not be begun'),
    ruleCall('lookNow', (id) => `rule ${id} is looked at`),
  );
  runs<object, [string]>(
    addVerb(noun, 'unfollow <rule>', 'end a rule; imports that it began go on'),
    ruleCall('deleteFollowRule', (id) => `rule ${id} is ended`),
  );
}

interface Rule {
  readonly id: string;
  readonly site: string;
  readonly filter: FollowFilter;
  readonly mirror: string | null;
  readonly createdBy: string;
  readonly lookedAt: string | null;
  readonly lastError: string | null;
}

const ruleFields =
  'id site filter store mirror createdBy createdAt lookedAt nextLookAt lastErrorCode lastError';

interface FollowFilter {
  readonly name?: Readonly<Record<string, unknown>>;
  readonly kind?: readonly string[];
  readonly stream?: string;
  readonly release?: string;
  readonly container?: string;
}

/** What is followed, in words. */
function whatOf({ filter, mirror }: Rule): string {
  const { name, kind, stream, release, container } = filter;
  if (container !== undefined) {
    return `container ${container}${mirror === container || mirror === null ? '' : `, here ${mirror}`}`;
  }
  const words = [
    ...Object.entries(name ?? {}).map(
      ([how, value]) => `names ${how === 'glob' ? '' : `${how} `}${String(value)}`,
    ),
    ...(kind ? [`kind ${kind.join(' or ')}`] : []),
    ...(stream === undefined ? [] : [`stream ${stream}`]),
    ...(release === undefined ? [] : [`release ${release}`]),
  ];
  return words.join(', ') || 'everything';
}

async function followSite(
  { client, output }: Context,
  { names, kind, stream, release, container, as: mirror, store }: FollowOptions,
  site: string,
): Promise<void> {
  const filter = {
    name: names === undefined ? null : { glob: names },
    kind,
    stream,
    release,
    container,
  };
  const { createFollowRule: made } = await client.call<{ createFollowRule: { rule: Rule } }>(
    `mutation Follow($input: CreateFollowRuleInput!) {
      createFollowRule(input: $input) { changed rule { ${ruleFields} } } }`,
    { input: { site, filter, store, mirror } },
  );
  await output.result(
    made,
    `rule ${made.rule.id} follows ${site}${made.rule.mirror === null ? '' : `: its container is kept here as ${made.rule.mirror}`}`,
  );
}

interface Followed {
  readonly name: string;
  readonly import: { number: number; status: string } | null;
  readonly error: string | null;
  readonly badReason: string | null;
  readonly isMarked: boolean;
  readonly leftAt: string | null;
  readonly leftReason: string | null;
}

const rulesQuery = `query Rules($first: Int, $after: String) {
  followRules(first: $first, after: $after) { nodes { ${ruleFields} } ${pageFields} } }`;
const followedQuery = `query Followed($id: ID!, $first: Int, $after: String) {
  followRule(id: $id) { datasets(first: $first, after: $after) {
    nodes { name foundAt errorCode error badReason isMarked leftAt leftReason import { number status } } ${pageFields} } } }`;

async function listRules(
  { client, output }: Context,
  { datasets, ...options }: ListOptions & { datasets?: string },
): Promise<void> {
  if (datasets === undefined) {
    const rules = paged<{ followRules: Connection<Rule> }, Rule>(
      client,
      rulesQuery,
      {},
      (data) => data.followRules,
      options,
    );
    return output.list(rules, [
      { title: 'RULE', value: (rule) => rule.id, align: 'right' },
      { title: 'SITE', value: (rule) => rule.site },
      { title: 'WHAT', value: whatOf },
      { title: 'BY', value: (rule) => rule.createdBy },
      { title: 'LAST LOOK', value: (rule) => rule.lookedAt },
      { title: 'ERROR', value: (rule) => rule.lastError },
    ]);
  }
  const found = paged<{ followRule: { datasets: Connection<Followed> } | null }, Followed>(
    client,
    followedQuery,
    { id: datasets },
    ({ followRule }) => {
      if (followRule) return followRule.datasets;
      throw new CliError(exitCode.notFound, `no rule ${datasets}: look at "import rules"`);
    },
    options,
  );
  return output.list(found, [
    { title: 'DATASET', value: (row) => row.name },
    { title: 'IMPORT', value: (row) => row.import?.number, align: 'right' },
    { title: 'STATUS', value: (row) => row.import?.status },
    { title: 'BAD THERE', value: (row) => row.badReason },
    {
      title: 'LEFT THERE',
      value: (row) => row.leftAt && [row.leftAt, row.leftReason ?? ''].join(' ').trim(),
    },
    { title: 'ERROR', value: (row) => row.error },
  ]);
}

function ruleCall(field: 'lookNow' | 'deleteFollowRule', say: (id: string) => string) {
  return async ({ client, output }: Context, _options: object, id: string): Promise<void> => {
    const done = await client.call<Record<string, object>>(
      `mutation Rule($id: ID!) { ${field}(id: $id) { changed rule { ${ruleFields} } } }`,
      { id },
    );
    await output.result(done[field], say(id));
  };
}
