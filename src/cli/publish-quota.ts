import type { Command } from 'commander';
import { addVerb, runs, wholeNumber, type Context } from './command.ts';
import { wrongUsage } from './exit-codes.ts';
import { sizeOf } from './publish-sources.ts';
import { humanBytes } from './table.ts';

interface QuotaOptions {
  readonly group?: string;
  readonly files?: number;
  readonly bytes?: number;
  readonly running?: number;
  readonly default?: boolean;
}

interface Numbers {
  readonly files: number;
  readonly bytes: number;
  readonly running: number;
}
interface Quota {
  readonly kind: string;
  readonly name: string;
  readonly limit: Numbers;
  readonly used: Numbers;
  readonly isSet: boolean;
}

export function addQuotaCommand(noun: Command): void {
  const quota = addVerb(noun, 'quota [user]', 'what may be published, and is; operators set it')
    .option('--group <name>', 'of this group')
    .option('--files <number>', 'set: most files', wholeNumber)
    .option('--bytes <size>', 'set: most bytes, such as 10TB', sizeOf)
    .option('--running <number>', 'set: most requests under way', wholeNumber)
    .option('--default', 'set: the default of the site again');
  runs<QuotaOptions, [string | undefined]>(quota, showQuota);
}

const fields = 'kind name isSet limit { files bytes running } used { files bytes running }';
const query = `query Quota($kind: QuotaKind!, $name: String) {
  publicationQuota(kind: $kind, name: $name) { ${fields} }
}`;
const setQuery = `mutation SetQuota($input: SetPublicationQuotaInput!) {
  setPublicationQuota(input: $input) { ${fields} }
}`;

async function showQuota(
  { client, output }: Context,
  { group, files, bytes, running, ...options }: QuotaOptions,
  user: string | undefined,
): Promise<void> {
  if (group !== undefined && user !== undefined) throw wrongUsage('a user, or --group, not both');
  const kind = group === undefined ? 'USER' : 'GROUP';
  const name = group ?? user;
  const given = [files, bytes, running].filter((number) => number !== undefined).length;
  const isSetting = given > 0 || options.default === true;
  if (isSetting && (name === undefined || (options.default ? given !== 0 : given !== 3))) {
    throw wrongUsage(
      'to set it name a user or a group, and --files, --bytes and --running, or --default',
    );
  }
  const quota = isSetting
    ? (
        await client.call<{ setPublicationQuota: Quota }>(setQuery, {
          input: { kind, name, files, bytes, running },
        })
      ).setPublicationQuota
    : (await client.call<{ publicationQuota: Quota }>(query, { kind, name })).publicationQuota;
  const { limit, used } = quota;
  await output.object(quota, {
    [quota.kind.toLowerCase()]: quota.name,
    files: `${used.files} of ${limit.files}`,
    bytes: `${humanBytes(used.bytes)} of ${humanBytes(limit.bytes)}`,
    'under way': `${used.running} of ${limit.running}`,
    'set by': quota.isSet ? 'an operator' : 'the site, for all',
  });
}
