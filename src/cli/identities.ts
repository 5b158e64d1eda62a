import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';

export function addIdentityCommands(program: Command): void {
  const noun = addNoun(program, 'identity', 'identities: who came with a token of an issuer');
  runs<ListOptions>(
    addListOptions(addVerb(noun, 'list', 'who came, what he was allowed, who is kept out')),
    listIdentities,
  );
  const block = addVerb(
    noun,
    'block <principal>',
    'keep somebody out, whatever his issuer says',
  ).requiredOption('--reason <text>', 'why; he is told');
  runs<{ reason: string }, [string]>(block, blockIdentity);
  runs<object, [string]>(
    addVerb(noun, 'unblock <principal>', 'let somebody in again'),
    unblockIdentity,
  );
}

interface Identity {
  readonly principal: string;
  readonly issuer: string;
  readonly subject: string;
  readonly roles: readonly string[];
  readonly groups: readonly string[];
  readonly firstSeenAt: string;
  readonly lastSeenAt: string;
  readonly lastSeenFrom: string | null;
  readonly blockedAt: string | null;
  readonly blockedBy: string | null;
  readonly blockedReason: string | null;
}

const fields =
  'principal issuer subject roles groups sites firstSeenAt lastSeenAt lastSeenFrom blockedAt blockedBy blockedReason';

async function listIdentities({ client, output }: Context, options: ListOptions): Promise<void> {
  const query = `query Identities($first: Int, $after: String) {
    identities(first: $first, after: $after) { nodes { ${fields} } ${pageFields} }
  }`;
  const rows = paged<{ identities: Connection<Identity> }, Identity>(
    client,
    query,
    {},
    (data) => data.identities,
    options,
  );
  await output.list(rows, [
    { title: 'PRINCIPAL', value: (row) => row.principal },
    { title: 'ROLES', value: (row) => row.roles.join(',') },
    { title: 'GROUPS', value: (row) => row.groups.join(',') },
    { title: 'ISSUER', value: (row) => row.issuer },
    { title: 'LAST SEEN', value: (row) => row.lastSeenAt },
    { title: 'FROM', value: (row) => row.lastSeenFrom },
    { title: 'BLOCKED', value: (row) => row.blockedReason },
  ]);
}

interface Changed {
  readonly changed: boolean;
  readonly identity: Identity;
}

async function blockIdentity(
  { client, output }: Context,
  { reason }: { reason: string },
  principal: string,
): Promise<void> {
  const { blockIdentity: made } = await client.call<{ blockIdentity: Changed }>(
    `mutation BlockIdentity($input: BlockIdentityInput!) {
      blockIdentity(input: $input) { changed identity { ${fields} } }
    }`,
    { input: { principal, reason } },
  );
  const already = made.changed ? '' : 'already ';
  await output.result(made, `${principal} is ${already}kept out`);
}

async function unblockIdentity(
  { client, output }: Context,
  _options: object,
  principal: string,
): Promise<void> {
  const { unblockIdentity: made } = await client.call<{ unblockIdentity: Changed }>(
    `mutation UnblockIdentity($principal: String!) {
      unblockIdentity(principal: $principal) { changed identity { ${fields} } }
    }`,
    { principal },
  );
  await output.result(made, `${principal} is ${made.changed ? 'let in again' : 'not kept out'}`);
}
