import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode, type ExitCode } from './exit-codes.ts';
import { humanBytes } from './table.ts';

export function addAuditCommands(program: Command): void {
  const noun = addNoun(program, 'audit', 'what mass stores still hold of what they confirmed');
  const compare = 'list a store and compare it with the catalogue; the default one if not named';
  runs<object, [string | undefined]>(
    addVerb(noun, 'compare [store]', compare),
    (context, _, store) => start(context, 'COMPARE', store),
  );
  const read = 'read back all that a store has confirmed, the oldest first';
  runs<object, [string | undefined]>(addVerb(noun, 'read [store]', read), (context, _, store) =>
    start(context, 'READ_BACK', store),
  );
  const list = addVerb(noun, 'list', 'the last audits, the newest first').option(
    '--store <name>',
    'of this store',
  );
  runs<{ store?: string }>(list, listAudits);
  runs<object, [string]>(
    addVerb(noun, 'show <id>', 'what an audit found; exit code 1: an alarm stands'),
    showAudit,
  );
  runs<object, [string]>(
    addVerb(
      noun,
      'accept <id>',
      'the alarm is true: what was found bad is lost, and asked for again',
    ),
    (context, _, id) => settle(context, id, true),
  );
  runs<object, [string]>(
    addVerb(noun, 'dismiss <id>', 'the alarm is not true: nothing is done about what was found'),
    (context, _, id) => settle(context, id, false),
  );
}

interface Audit {
  readonly id: string;
  readonly store: string;
  readonly what: string;
  readonly state: string;
  readonly startedAt: string;
  readonly finishedAt: string | null;
  readonly worker: string | null;
  readonly lookedCount: number;
  readonly lookedBytes: number;
  readonly wrongCount: number;
  readonly unreadableCount: number;
  readonly unknownCount: number;
  readonly detail: string | null;
}

interface Finding {
  readonly lfn: string | null;
  readonly storeKey: string;
  readonly what: string;
  readonly says: string;
  readonly outcome: string | null;
}

const fields = `id store what state askedBy startedAt finishedAt worker lookedCount lookedBytes wrongCount
  unreadableCount unknownCount detail`;

async function start(
  { client, output }: Context,
  what: string,
  store: string | undefined,
): Promise<void> {
  const { startAudit: done } = await client.call<{
    startAudit: { audit: Audit; changed: boolean };
  }>(
    `mutation StartAudit($what: AuditKind!, $store: String) {
      startAudit(what: $what, store: $store) { changed audit { ${fields} } } }`,
    { what, store: store ?? null },
  );
  const { audit, changed } = done;
  const told = changed ? 'asked for; look at "audit show"' : 'is under way already';
  await output.result(done, `audit ${audit.id} of ${audit.store} (${audit.what}) ${told}`);
}

async function readAudits({ client }: Context, store?: string): Promise<readonly Audit[]> {
  const { storeAudits } = await client.call<{ storeAudits: readonly Audit[] }>(
    `query Audits($store: String) { storeAudits(store: $store) { ${fields} } }`,
    { store: store ?? null },
  );
  return storeAudits;
}

async function listAudits(context: Context, { store }: { store?: string }): Promise<void> {
  await context.output.list(await readAudits(context, store), [
    { title: 'ID', value: ({ id }) => id, align: 'right' },
    { title: 'STORE', value: (audit) => audit.store },
    { title: 'WHAT', value: ({ what }) => what },
    { title: 'STATE', value: ({ state }) => state },
    { title: 'BEGUN', value: ({ startedAt }) => startedAt.slice(0, 16).replace('T', ' ') },
    { title: 'LOOKED AT', value: ({ lookedCount }) => String(lookedCount), align: 'right' },
    { title: 'BYTES', value: ({ lookedBytes }) => humanBytes(lookedBytes), align: 'right' },
    { title: 'BAD', value: ({ wrongCount }) => String(wrongCount), align: 'right' },
    { title: 'UNREADABLE', value: (audit) => String(audit.unreadableCount), align: 'right' },
    { title: 'UNKNOWN', value: ({ unknownCount }) => String(unknownCount), align: 'right' },
    { title: 'DETAIL', value: ({ detail }) => detail },
  ]);
}

async function showAudit(context: Context, _: object, id: string): Promise<ExitCode> {
  const { client, output } = context;
  const { storeAudits } = await client.call<{
    storeAudits: readonly (Audit & { findings: readonly Finding[] })[];
  }>(
    `query Audit($id: ID!) { storeAudits(id: $id) { ${fields}
      findings(first: 200) { lfn storeKey what says outcome } } }`,
    { id },
  );
  const audit = storeAudits[0];
  if (!audit)
    throw new CliError(exitCode.notFound, `audit ${id} is not known; look at "audit list"`);
  await output.result(
    audit,
    `audit ${audit.id} of ${audit.store} (${audit.what}) is ${audit.state}: ${audit.lookedCount} files looked at, ` +
      `${audit.wrongCount} bad, ${audit.unreadableCount} unreadable, ${audit.unknownCount} unknown here`,
  );
  if (audit.detail !== null) await output.say(`  ${audit.detail}`);
  for (const { lfn, storeKey, what, says, outcome } of audit.findings) {
    await output.say(
      `  ${what}${outcome === null ? '' : ` ${outcome}`}  ${lfn ?? storeKey}: ${says}`,
    );
  }
  return audit.state === 'ALARM' ? exitCode.failed : exitCode.done;
}

async function settle({ client, output }: Context, id: string, isTrue: boolean): Promise<void> {
  const { settleAudit: done } = await client.call<{
    settleAudit: { audit: Audit; lostCount: number };
  }>(
    `mutation SettleAudit($id: ID!, $isTrue: Boolean!) {
      settleAudit(id: $id, isTrue: $isTrue) { lostCount audit { ${fields} } } }`,
    { id, isTrue },
  );
  const { audit, lostCount } = done;
  await output.result(done, `audit ${audit.id} is ${audit.state}: ${lostCount} copies lost by it`);
}
