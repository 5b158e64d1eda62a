import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { exitCode, type ExitCode } from './exit-codes.ts';
import { humanBytes } from './table.ts';

export function addStoreCommands(program: Command): void {
  const noun = addNoun(program, 'store', 'mass stores, where the backups are');
  runs(addVerb(noun, 'list', 'all mass stores'), listStores);
  runs(addVerb(noun, 'policies', 'which stores new files owe a copy in'), listPolicies);
  runs<object, [string | undefined]>(
    addVerb(noun, 'check [name]', 'tests a store with canaries now; the default one if not named'),
    checkStore,
  );
}

interface Store {
  readonly name: string;
  readonly kind: string;
  readonly site: string;
  readonly root: string | null;
  readonly isDefault: boolean;
  readonly isUp: boolean;
  readonly detail: string;
  readonly freeBytes: number | null;
  readonly confirmLevel: string;
  readonly isTrusted: boolean;
  readonly isConfigured: boolean;
  readonly attemptLimit: number;
  readonly retry: Retry;
  readonly copyCount: number | null;
  readonly waitingCount: number | null;
  readonly lastTest: StoreTest | null;
}

interface Retry {
  readonly firstSeconds: number;
  readonly factor: number;
  readonly longestSeconds: number;
  readonly tapeHours: number;
}

interface StoreTest {
  readonly testedAt: string;
  readonly host: string;
  readonly passed: boolean;
  readonly isConclusive: boolean;
  readonly findings: readonly Finding[];
}

interface Finding {
  readonly step: string;
  readonly asking: string | null;
  readonly expected: string | null;
  readonly got: string | null;
  readonly reason: string | null;
}

const fields = `name kind site root isDefault isUp detail freeBytes accessUrlPrefix confirmLevel isTrusted isConfigured
  attemptLimit retry { firstSeconds factor longestSeconds tapeHours } copyCount waitingCount
  lastTest { testedAt host passed isConclusive findings { step asking expected got reason } }`;
const query = `query Stores { massStores { ${fields} } }`;

async function readStores({ client }: Context): Promise<readonly Store[]> {
  return (await client.call<{ massStores: readonly Store[] }>(query)).massStores;
}

async function listStores(context: Context): Promise<void> {
  await context.output.list(await readStores(context), [
    { title: 'NAME', value: (store) => store.name + (store.isDefault ? ' (default)' : '') },
    { title: 'KIND', value: (store) => store.kind },
    { title: 'SITE', value: (store) => store.site },
    { title: 'STATE', value: stateOf },
    { title: 'CONFIRMS WITH', value: (store) => effectiveLevel(store) },
    { title: 'SELF-TEST', value: testOf },
    { title: 'COPIES', value: (store) => store.copyCount, align: 'right' },
    { title: 'OWED', value: (store) => store.waitingCount, align: 'right' },
    { title: 'ATTEMPTS', value: attemptsOf },
    { title: 'FREE', value: (store) => humanBytes(store.freeBytes), align: 'right' },
    { title: 'ROOT', value: (store) => store.root },
    { title: 'DETAIL', value: (store) => store.detail },
  ]);
}

interface Policy {
  readonly kind: string | null;
  readonly minBytes: number | null;
  readonly maxBytes: number | null;
  readonly stores: readonly string[];
}

/** In their order: the first that fits counts. */
async function listPolicies({ client, output }: Context): Promise<void> {
  const { backupPolicies } = await client.call<{ backupPolicies: readonly Policy[] }>(
    'query Policies { backupPolicies { kind minBytes maxBytes stores } }',
  );
  await output.list(backupPolicies, [
    { title: 'KIND', value: ({ kind }) => kind ?? 'any' },
    { title: 'FROM', value: ({ minBytes }) => humanBytes(minBytes), align: 'right' },
    { title: 'TO', value: ({ maxBytes }) => humanBytes(maxBytes), align: 'right' },
    { title: 'STORES', value: ({ stores }) => stores.join(', ') },
  ]);
}

/** As "8, 2 s to 600 s": how many, and the waits between them. */
function attemptsOf({ attemptLimit, retry }: Store): string {
  const { firstSeconds, longestSeconds } = retry;
  return `${attemptLimit}, ${firstSeconds} s to ${longestSeconds} s`;
}

function stateOf(store: Store): string {
  if (!store.isConfigured) return 'not in the store file';
  return store.isUp ? 'up' : 'down';
}

/** A store that failed its self-test is not taken at its word. */
function effectiveLevel({ confirmLevel, isTrusted }: Store): string {
  if (isTrusted) return confirmLevel;
  return confirmLevel === 'ARCHIVED' ? 'READ_BACK and ARCHIVED' : 'READ_BACK';
}

function testOf({ lastTest }: Store): string {
  if (!lastTest) return 'none yet';
  const day = lastTest.testedAt.slice(0, 16).replace('T', ' ');
  if (!lastTest.isConclusive) return `cut off ${day}`;
  return `${lastTest.passed ? 'passed' : 'FAILED'} ${day}`;
}

/** Exit 0: up, and each answer was the right one. 1: not; the table says which. */
async function checkStore(
  context: Context,
  _options: object,
  name: string | undefined,
): Promise<ExitCode> {
  const { checkMassStore: store } = await context.client.call<{ checkMassStore: Store }>(
    `mutation CheckStore($name: String) { checkMassStore(name: $name) { ${fields} } }`,
    { name: name ?? null },
  );
  const test = store.lastTest;
  const free = store.freeBytes === null ? '' : `, ${humanBytes(store.freeBytes)} free`;
  await context.output.result(
    store,
    `${store.name} is ${store.isUp ? 'up' : 'down'}: ${store.detail}${free}`,
  );
  const tested = test ? `self-test from ${test.host} ${testOf(store)}` : 'no self-test';
  await context.output.say(`${tested}; confirms with ${effectiveLevel(store)}`);
  const { factor, tapeHours } = store.retry;
  await context.output.say(
    `attempts: ${attemptsOf(store)}, ${factor} times as long each time; tape is late after ${tapeHours} h`,
  );
  for (const finding of test?.findings ?? []) await context.output.say(tellFinding(finding));
  return store.isUp && test?.passed ? exitCode.done : exitCode.failed;
}

function tellFinding({ step, asking, expected, got, reason }: Finding): string {
  const isRight = expected !== null && got === expected;
  const how = asking === null ? '' : asking === 'SAYS' ? ' (its word)' : ' (read back)';
  const what = got === null ? '' : `: ${got}${isRight ? '' : `, should be ${expected}`}`;
  return `  ${isRight ? 'right' : 'WRONG'}  ${step}${how}${what}${reason ? `; ${reason}` : ''}`;
}
