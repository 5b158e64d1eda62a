import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { may } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { nodeName, readNodeId, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import {
  CreateWebhookInput,
  CreateWebhookPayload,
  EnableWebhookInput,
  WebhookConnection,
  WebhookDelivery,
  WebhookNames,
  WebhookPayload,
  WebhookType,
} from './webhooks.schema.ts';
import {
  createWebhook,
  deleteWebhook,
  enableWebhook,
  testWebhook,
  type WebhookMeans,
} from './webhooks.service.ts';
import { findWebhook, listWebhooks, type WebhookRow } from './webhooks.queries.ts';

const withName = (row: WebhookRow) => Object.assign(row, { [nodeName]: 'Webhook' as const });

/** What `node` finds; nothing for who shows no token. */
export async function findWebhookNode(
  { db, viewer }: Context,
  id: number,
): Promise<object | undefined> {
  if (!may(viewer, 'manageWebhooks', viewer.principal)) return undefined;
  const row = await findWebhook(db.fork(), viewer, id);
  return row && withName(row);
}

function webhookId(id: string): number | undefined {
  const key = readNodeId(id);
  return key?.name === 'Webhook' ? key.id : undefined;
}

function meansOf({ means }: Context): WebhookMeans {
  const { epoch, webhooks } = means;
  return { epoch, ...webhooks };
}

const idArgument = { description: 'Its id.' };

@Resolver(() => WebhookType)
export class WebhookResolver {
  @Query(() => WebhookConnection, {
    description: 'Your webhooks, oldest first; for operators those of everybody.',
  })
  async webhooks(
    @Ctx() { db, viewer }: Context,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<WebhookRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listWebhooks(db.fork(), viewer, page));
  }

  @Mutation(() => CreateWebhookPayload, {
    description:
      'Has an address told what happens to your datasets from now on. At most 20 webhooks for each name. ' +
      'BAD_USER_INPUT (the address, the conditions), LIMIT_REACHED, FORBIDDEN (datasets of others are for operators).',
  })
  async createWebhook(
    @Ctx() context: Context,
    @Arg('input', () => CreateWebhookInput, { description: 'The webhook.' })
    input: CreateWebhookInput,
  ) {
    const { db, viewer } = context;
    const { id, secret } = await createWebhook(db, viewer, meansOf(context), input);
    return { webhook: await findWebhook(db.fork(), viewer, id), secret };
  }

  @Mutation(() => WebhookPayload, {
    description: 'Ends a webhook at once, with what it was not told yet. NOT_FOUND.',
  })
  async deleteWebhook(@Ctx() { db, viewer }: Context, @Arg('id', () => ID, idArgument) id: string) {
    return { webhook: await deleteWebhook(db, viewer, webhookId(id)), changed: true };
  }

  @Mutation(() => WebhookPayload, {
    description: 'Sends again at once what could not be delivered, disabled or not. NOT_FOUND.',
  })
  async enableWebhook(
    @Ctx() { db, viewer, means }: Context,
    @Arg('input', () => EnableWebhookInput, { description: 'Which webhook, and from where.' })
    { id, fromNow }: EnableWebhookInput,
  ) {
    const done = await enableWebhook(db, viewer, webhookId(id), fromNow);
    means.ring();
    return { webhook: await findWebhook(db.fork(), viewer, done.id), changed: done.changed };
  }

  @Mutation(() => WebhookDelivery, {
    description:
      'Sends a test notice (webhook.test) now, once, and says what came of it. NOT_FOUND, RATE_LIMITED, UNAVAILABLE.',
  })
  async testWebhook(
    @Ctx() context: Context,
    @Arg('id', () => ID, idArgument) id: string,
  ): Promise<WebhookDelivery> {
    const { db, viewer } = context;
    const { at, answer } = await testWebhook(db, viewer, meansOf(context), webhookId(id));
    return {
      at,
      notice: null,
      status: answer.status ?? null,
      attempts: 1,
      error: answer.error ?? null,
      nextAttemptAt: null,
    };
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() webhook: WebhookRow): string {
    return writeNodeId('Webhook', webhook.id);
  }

  @FieldResolver(() => String, {
    description: 'Where notices go. Of the webhooks of others you see the host only.',
  })
  url(@Ctx() { viewer }: Context, @Root() webhook: WebhookRow): string {
    return webhook.owner === viewer.principal ? webhook.url : `${new URL(webhook.url).origin}/…`;
  }

  @FieldResolver(() => WebhookNames, {
    nullable: true,
    description: 'Conditions on the names of datasets; null = every name.',
  })
  datasets(@Root() webhook: WebhookRow): WebhookNames | null {
    return webhook.names as WebhookNames | null;
  }

  @FieldResolver(() => WebhookDelivery, {
    nullable: true,
    description: 'The last attempt; null = there was nothing to tell yet.',
  })
  lastDelivery(@Root() webhook: WebhookRow): WebhookDelivery | null {
    if (webhook.lastAttemptAt === null) return null;
    const isWaiting = webhook.status === 'ENABLED' && webhook.failureCount > 0;
    return {
      at: webhook.lastAttemptAt,
      notice: webhook.lastNotice,
      status: webhook.lastStatus,
      attempts: webhook.lastAttempts ?? 0,
      error: webhook.lastError,
      nextAttemptAt: isWaiting ? webhook.nextAttemptAt : null,
    };
  }
}
