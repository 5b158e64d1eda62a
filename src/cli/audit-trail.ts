import { InvalidArgumentError, type Command } from 'commander';
import { addVerb, runs, wordOf, type Context } from './command.ts';
import { durationSeconds } from './duration.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';

const kinds = ['QUERY', 'MUTATION', 'SUBSCRIPTION', 'REQUEST', 'CONNECTION'];

export function addAuditTrailCommand(program: Command): void {
  const command = addVerb(
    program,
    'audit-trail',
    'who did what, from where and by which token, and what was refused; newest first',
  )
    .option('--principal <name>', 'of this principal')
    .option('--from <address>', 'from this address')
    .option('--token <prefix>', 'by the API token with this prefix')
    .option('--field <field>', 'this field of the schema, closeDataset for one')
    .option('--kind <kind>', kinds.join(', '), wordOf(kinds))
    .option('--refused', 'only what was refused')
    .option('--code <code>', 'refused with this code')
    .option('--since <when>', 'a date (2027-01-31, RFC 3339), or so long ago: 12h, 7d', moment)
    .option('--until <when>', 'before that; written like --since', moment);
  runs<Options>(addListOptions(command), auditTrail);
}

interface Options extends ListOptions {
  readonly principal?: string;
  readonly from?: string;
  readonly token?: string;
  readonly field?: string;
  readonly kind?: string;
  readonly refused?: boolean;
  readonly code?: string;
  readonly since?: string;
  readonly until?: string;
}

interface Entry {
  readonly at: string;
  readonly principal: string;
  readonly tokenPrefix: string | null;
  readonly issuer: string | null;
  readonly subject: string | null;
  readonly jti: string | null;
  readonly address: string | null;
  readonly kind: string;
  readonly operation: string | null;
  readonly field: string;
  readonly outcome: string;
  readonly code: string | null;
  readonly times: number;
}

const query = `query AuditTrail($filter: AuditTrailFilter, $first: Int, $after: String) {
  auditTrail(filter: $filter, first: $first, after: $after) {
    nodes {
      at keptUntil principal roles tokenPrefix issuer subject jti address requestId
      kind operation field outcome code times
    }
    ${pageFields}
  }
}`;

async function auditTrail({ client, output }: Context, options: Options): Promise<void> {
  const { principal, from, token, field, kind, refused, code, since, until } = options;
  const filter = {
    principal,
    address: from,
    tokenPrefix: token,
    field,
    kind: kind === undefined ? undefined : [kind],
    outcome: refused ? 'REFUSED' : undefined,
    code,
    at: { gte: since, lt: until },
  };
  const rows = paged<{ auditTrail: Connection<Entry> }, Entry>(
    client,
    query,
    { filter },
    (data) => data.auditTrail,
    options,
  );
  await output.list(rows, [
    { title: 'WHEN', value: (line) => line.at },
    { title: 'WHO', value: (line) => line.principal },
    { title: 'BY', value: (line) => line.tokenPrefix ?? line.jti ?? line.subject },
    { title: 'FROM', value: (line) => line.address },
    { title: 'KIND', value: (line) => line.kind },
    { title: 'WHAT', value: (line) => line.field },
    { title: 'OPERATION', value: (line) => line.operation },
    { title: 'OUTCOME', value: (line) => line.code ?? line.outcome },
    { title: 'TIMES', value: (line) => line.times, align: 'right' },
  ]);
}

/** A date, or a length of time before now. */
function moment(text: string): string {
  const time = /^\d+[smhdw]$/.test(text)
    ? Date.now() - durationSeconds(text) * 1000
    : Date.parse(text);
  if (Number.isNaN(time)) {
    throw new InvalidArgumentError('A date like 2027-01-31, or so long ago: 12h, 7d.');
  }
  return new Date(time).toISOString();
}
