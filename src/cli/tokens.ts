import type { Command } from 'commander';
import { addNoun, addVerb, runs, wordsOf, type Context } from './command.ts';
import { durationSeconds } from './duration.ts';
import { complain } from './print.ts';
import { wrongUsage } from './exit-codes.ts';

const roles = ['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN'];

export function addTokenCommands(program: Command): void {
  const noun = addNoun(program, 'token', 'tokens: who may do what');
  const create = addVerb(noun, 'create <principal>', 'make a token; it is printed this once')
    .requiredOption('--role <roles>', `${roles.join(', ')}; several with commas`, wordsOf(roles))
    .option(
      '--scope <scopes>',
      'narrowed to read and actions (docs/access.md); several with commas',
      words,
    )
    .option('--site <sites>', 'good for these sites; several with commas', words)
    .option('--note <text>', 'what it is for')
    .option('--expires <when>', 'a date (2027-01-31, RFC 3339), or days from now: 90d');
  runs<CreateOptions, [string]>(create, createToken);
  runs(addVerb(noun, 'list', 'all tokens, without their secrets'), listTokens);
  const rotate = addVerb(
    noun,
    'rotate [prefix]',
    'replace a token by a new one, yours if no prefix is given; the new one is printed this once',
  ).option(
    '--grace <duration>',
    'how long the old one is still good: 90s, 12h, 7d',
    durationSeconds,
    0,
  );
  runs<RotateOptions, [string | undefined]>(rotate, rotateToken);
  const revoke = addVerb(noun, 'revoke <prefix>', 'take a token back, at once').option(
    '--with-successors',
    'and what came of it by rotation: whoever had it may have rotated it',
    false,
  );
  runs<RevokeOptions, [string]>(revoke, revokeToken);
}

interface CreateOptions {
  readonly role: string[];
  readonly scope?: string[];
  readonly site?: string[];
  readonly note?: string;
  readonly expires?: string;
}

const words = (text: string, before: readonly string[] = []) => [...before, ...text.split(',')];

interface TokenRow {
  readonly prefix: string;
  readonly principal: string;
  readonly roles: readonly string[];
  readonly scopes: readonly string[] | null;
  readonly sites: readonly string[] | null;
  readonly note: string | null;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
  readonly lastUsedAt: string | null;
  readonly lastUsedFrom: string | null;
  readonly replaces: string | null;
}

const tokenFields =
  'prefix principal roles scopes sites note createdAt createdBy expiresAt revokedAt lastUsedAt lastUsedFrom replaces';

const createQuery = `mutation CreateToken($input: CreateTokenInput!) {
  createToken(input: $input) { token details { ${tokenFields} } }
}`;

async function createToken(
  { client, output }: Context,
  { role, scope, site, note, expires }: CreateOptions,
  principal: string,
): Promise<void> {
  const expiresAt = expires === undefined ? undefined : timeOf(expires);
  const { createToken: made } = await client.call<{
    createToken: { token: string; details: TokenRow };
  }>(createQuery, {
    input: { principal, roles: role, scopes: scope, sites: site, note, expiresAt },
  });
  // The token alone on stdout, so that it can be sent straight into a file.
  await output.result(made, made.token);
  if (output.json) return;
  const until = made.details.expiresAt === null ? '' : `, until ${made.details.expiresAt}`;
  complain(
    `token ${made.details.prefix} for ${principal} (${made.details.roles.join(', ')}${until}): ` +
      'keep it, it is not shown again',
  );
}

interface RotateOptions {
  readonly grace: number;
}

const rotateQuery = `mutation RotateToken($input: RotateTokenInput!) {
  rotateToken(input: $input) { token details { ${tokenFields} } replaced { ${tokenFields} } }
}`;

async function rotateToken(
  { client, output }: Context,
  { grace }: RotateOptions,
  prefix: string | undefined,
): Promise<void> {
  const { rotateToken: made } = await client.call<{
    rotateToken: { token: string; details: TokenRow; replaced: TokenRow };
  }>(rotateQuery, { input: { prefix, graceSeconds: grace } });
  await output.result(made, made.token);
  if (output.json) return;
  const { details, replaced } = made;
  const end = replaced.revokedAt ? 'has ended' : `ends at ${replaced.expiresAt}`;
  complain(
    `token ${details.prefix} replaces ${replaced.prefix} of ${details.principal}, which ${end}: keep it, it is not shown again`,
  );
}

const dayMs = 86_400_000;

function timeOf(text: string): string {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  const time = days === undefined ? Date.parse(text) : Date.now() + Number(days) * dayMs;
  if (Number.isNaN(time)) {
    throw wrongUsage(`--expires ${text}: a date like 2027-01-31, or days from now like 90d`);
  }
  return new Date(time).toISOString();
}

async function listTokens({ client, output }: Context): Promise<void> {
  const { tokens } = await client.call<{ tokens: readonly TokenRow[] }>(
    `query Tokens { tokens { ${tokenFields} } }`,
  );
  await output.list(tokens, [
    { title: 'PREFIX', value: (token) => token.prefix },
    { title: 'PRINCIPAL', value: (token) => token.principal },
    { title: 'ROLES', value: (token) => token.roles.join(',') },
    { title: 'SCOPES', value: (token) => token.scopes?.join(',') },
    { title: 'SITES', value: (token) => token.sites?.join(',') },
    { title: 'NOTE', value: (token) => token.note },
    { title: 'CREATED', value: (token) => token.createdAt },
    { title: 'EXPIRES', value: (token) => token.expiresAt },
    { title: 'REVOKED', value: (token) => token.revokedAt },
    { title: 'LAST USED', value: (token) => token.lastUsedAt },
    { title: 'REPLACES', value: (token) => token.replaces },
  ]);
}

interface RevokeOptions {
  readonly withSuccessors: boolean;
}

const revokeQuery = `mutation RevokeToken($prefix: String!, $withSuccessors: Boolean!) {
  revokeToken(prefix: $prefix, withSuccessors: $withSuccessors) {
    changed details { ${tokenFields} } successors { ${tokenFields} }
  }
}`;

async function revokeToken(
  { client, output }: Context,
  { withSuccessors }: RevokeOptions,
  prefix: string,
): Promise<void> {
  const { revokeToken: revoked } = await client.call<{
    revokeToken: {
      changed: boolean;
      details: TokenRow;
      successors: readonly TokenRow[];
    };
  }>(revokeQuery, { prefix, withSuccessors });
  const { changed, details, successors } = revoked;
  const names = successors.map((token) => token.prefix).join(', ');
  const isAll = withSuccessors && successors.length > 0;
  await output.result(
    revoked,
    `token ${details.prefix} of ${details.principal} is ${changed ? '' : 'already '}revoked` +
      (isAll ? `, and so is what came of it: ${names}` : ''),
  );
  if (output.json || withSuccessors || successors.length === 0) return;
  complain(`what came of it by rotation still stands: ${names}; --with-successors ends that, too`);
}
