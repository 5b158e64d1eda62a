import type { Command } from 'commander';
import { addNoun, addVerb, repeated, runs, wordOf, wordsOf, type Context } from './command.ts';
import { exitCode, type ExitCode } from './exit-codes.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { complain } from './print.ts';

const kinds = ['DATASET_MARKED_BAD', 'DATASET_CLEARED', 'DATASET_CLOSED'];
const scopes = ['OWN', 'ALL'];

export function addWebhookCommands(program: Command): void {
  const noun = addNoun(
    program,
    'webhook',
    'addresses that are told when datasets turn bad or good',
  );
  const create = addVerb(
    noun,
    'create <url>',
    'have an address told; the secret of its signatures is printed this once',
  )
    .option('--kind <kinds>', `${kinds.join(', ')}; several with commas, or all`, wordsOf(kinds))
    .option(
      '--scope <scope>',
      `datasets of yours or of everybody: ${scopes.join(', ')}`,
      wordOf(scopes),
    )
    .option('--dataset <name>', 'only this dataset; may be given several times', repeated)
    .option('--datasets <pattern>', 'only datasets of such names (* and ?)');
  runs<CreateOptions, [string]>(create, createWebhook);
  runs<ListOptions>(
    addListOptions(addVerb(noun, 'list', 'your webhooks, and how their last delivery went')),
    listWebhooks,
  );
  runs<object, [string]>(addVerb(noun, 'delete <id>', 'end a webhook, at once'), deleteWebhook);
  runs<object, [string]>(
    addVerb(noun, 'test <id>', 'send a test notice now; exits 0 when the receiver took it'),
    testWebhook,
  );
  const enable = addVerb(
    noun,
    'enable <id>',
    'send again at once what could not be delivered',
  ).option('--from-now', 'leave out what happened meanwhile');
  runs<{ fromNow?: boolean }, [string]>(enable, enableWebhook);
}

interface CreateOptions {
  readonly kind?: string[];
  readonly scope?: string;
  readonly dataset?: string[];
  readonly datasets?: string;
}

interface Delivery {
  readonly at: string;
  readonly notice: string | null;
  readonly status: number | null;
  readonly attempts: number;
  readonly error: string | null;
  readonly nextAttemptAt: string | null;
}

interface Webhook {
  readonly id: string;
  readonly owner: string;
  readonly url: string;
  readonly kinds: readonly string[];
  readonly scope: string;
  readonly status: string;
  readonly disabledReason: string | null;
  readonly lastDelivery: Delivery | null;
}

const webhookFields = `id owner url kinds scope datasets { eq in startsWith glob } status disabledReason disabledAt
  createdAt lastDelivery { at notice status attempts error nextAttemptAt }`;

const createQuery = `mutation CreateWebhook($input: CreateWebhookInput!) {
  createWebhook(input: $input) { secret webhook { ${webhookFields} } }
}`;

async function createWebhook(
  { client, output }: Context,
  { kind, scope, dataset, datasets }: CreateOptions,
  url: string,
): Promise<void> {
  const names = { in: dataset, glob: datasets };
  const { createWebhook: made } = await client.call<{
    createWebhook: { secret: string; webhook: Webhook };
  }>(createQuery, { input: { url, kinds: kind, scope, datasets: names } });
  // The secret alone on stdout, so that it can be sent straight into a file.
  await output.result(made, made.secret);
  if (!output.json) complain(`webhook ${made.webhook.id}: keep the secret, it is not shown again`);
}

const listQuery = `query Webhooks($first: Int, $after: String) {
  webhooks(first: $first, after: $after) { nodes { ${webhookFields} } ${pageFields} }
}`;

async function listWebhooks({ client, output }: Context, options: ListOptions): Promise<void> {
  const webhooks = paged<{ webhooks: Connection<Webhook> }, Webhook>(
    client,
    listQuery,
    {},
    (data) => data.webhooks,
    options,
  );
  await output.list(webhooks, [
    { title: 'ID', value: (webhook) => webhook.id },
    { title: 'OWNER', value: (webhook) => webhook.owner },
    { title: 'STATUS', value: (webhook) => webhook.status },
    { title: 'URL', value: (webhook) => webhook.url },
    { title: 'KINDS', value: (webhook) => webhook.kinds.join(',') },
    { title: 'SCOPE', value: (webhook) => webhook.scope },
    {
      title: 'LAST DELIVERY',
      value: ({ lastDelivery }) => lastDelivery && `${lastDelivery.at} ${outcome(lastDelivery)}`,
    },
    { title: 'WHY DISABLED', value: (webhook) => webhook.disabledReason },
  ]);
}

function outcome({ status, attempts, error }: Delivery): string {
  const after = attempts > 1 ? ` after ${attempts} attempts` : '';
  return error === null ? `HTTP ${status}${after}` : `failed${after}: ${error}`;
}

const deleteQuery = `mutation DeleteWebhook($id: ID!) {
  deleteWebhook(id: $id) { changed webhook { ${webhookFields} } }
}`;

async function deleteWebhook(
  { client, output }: Context,
  _options: object,
  id: string,
): Promise<void> {
  const { deleteWebhook: done } = await client.call<{ deleteWebhook: { webhook: Webhook } }>(
    deleteQuery,
    { id },
  );
  await output.result(done, `webhook ${id} to ${done.webhook.url} is deleted`);
}

const testQuery = `mutation TestWebhook($id: ID!) {
  testWebhook(id: $id) { at notice status attempts error nextAttemptAt }
}`;

async function testWebhook(
  { client, output }: Context,
  _options: object,
  id: string,
): Promise<ExitCode> {
  const { testWebhook: done } = await client.call<{ testWebhook: Delivery }>(testQuery, { id });
  await output.result(done, `webhook ${id}: ${outcome(done)}`);
  return done.error === null ? exitCode.done : exitCode.failed;
}

const enableQuery = `mutation EnableWebhook($input: EnableWebhookInput!) {
  enableWebhook(input: $input) { changed webhook { ${webhookFields} } }
}`;

async function enableWebhook(
  { client, output }: Context,
  { fromNow }: { fromNow?: boolean },
  id: string,
): Promise<void> {
  const { enableWebhook: done } = await client.call<{
    enableWebhook: { changed: boolean; webhook: Webhook };
  }>(enableQuery, { input: { id, fromNow: fromNow ?? false } });
  const what = done.changed ? 'is enabled' : 'was enabled already';
  await output.result(done, `webhook ${id} ${what}`);
}
