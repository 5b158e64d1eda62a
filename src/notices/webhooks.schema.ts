import { Field, ID, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, NameFilter } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime } from '../api/scalars.ts';
import type {
  NoticeKind as KindName,
  WebhookScope as ScopeName,
  WebhookStatus as StatusName,
} from './webhooks.rules.ts';

export const NoticeKind = enumType<KindName>('NoticeKind', 'What a webhook can be told.', {
  DATASET_MARKED_BAD: 'A dataset was marked bad (dataset.marked_bad).',
  DATASET_CLEARED: 'A bad mark was taken off (dataset.cleared); isBad says whether one is left.',
  DATASET_CLOSED: 'A dataset was closed and can be read (dataset.closed).',
});

export const WebhookScope = enumType<ScopeName>(
  'WebhookScope',
  'Whose datasets a webhook is about.',
  {
    OWN: 'Those of the owner of the webhook.',
    ALL: 'Those of everybody. For operators.',
  },
);

export const WebhookStatus = enumType<StatusName>('WebhookStatus', 'Whether notices are sent.', {
  ENABLED: 'Notices are sent; what could not be delivered is tried again.',
  DISABLED: 'Given up, disabledReason says why; nothing is lost, enableWebhook goes on.',
});

@ObjectType({ description: 'Conditions on the names of datasets; all must hold.' })
export class WebhookNames {
  @Field(() => String, { nullable: true, description: 'Exactly this.' })
  eq?: string | null;

  @Field(() => [String], { nullable: true, description: 'One of these.' })
  in?: string[] | null;

  @Field(() => String, { nullable: true, description: 'Begins with this.' })
  startsWith?: string | null;

  @Field(() => String, { nullable: true, description: '* = anything, ? = one character.' })
  glob?: string | null;
}

@ObjectType({ description: 'The last attempt to tell a webhook something.' })
export class WebhookDelivery {
  @Field(() => DateTime, { description: 'When.' })
  at!: Date;

  @Field(() => String, { nullable: true, description: 'Which notice (webhook-id).' })
  notice!: string | null;

  @Field(() => Int, {
    nullable: true,
    description: 'HTTP status of the receiver; null = it gave no answer.',
  })
  status!: number | null;

  @Field(() => Int, { description: 'Attempts at this notice so far.' })
  attempts!: number;

  @Field(() => String, {
    nullable: true,
    description: 'Why it was not delivered; null = it was.',
  })
  error!: string | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When it is tried again; null = it need not be, or the webhook is disabled.',
  })
  nextAttemptAt!: Date | null;
}

@ObjectType('Webhook', {
  implements: NodeType,
  description: 'An address that is told when datasets turn bad or good (docs/webhooks.md).',
})
export class WebhookType extends NodeType {
  @Field(() => String, { description: 'Who asked for it.' })
  owner!: string;

  @Field(() => String, {
    description: 'Where notices go. Of the webhooks of others you see the host only.',
  })
  url!: string;

  @Field(() => [NoticeKind], { description: 'What it is told.' })
  kinds!: KindName[];

  @Field(() => WebhookScope, { description: 'Whose datasets it is about.' })
  scope!: ScopeName;

  @Field(() => WebhookNames, {
    nullable: true,
    description: 'Conditions on the names of datasets; null = every name.',
  })
  datasets!: WebhookNames | null;

  @Field(() => WebhookStatus, { description: 'Whether notices are sent.' })
  status!: StatusName;

  @Field(() => String, { nullable: true, description: 'Why it was disabled.' })
  disabledReason!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was disabled.' })
  disabledAt!: Date | null;

  @Field(() => DateTime, { description: 'When it was made.' })
  createdAt!: Date;

  @Field(() => WebhookDelivery, {
    nullable: true,
    description: 'The last attempt; null = there was nothing to tell yet.',
  })
  lastDelivery!: WebhookDelivery | null;
}

export const WebhookConnection = connectionType('Webhook', () => WebhookType);

@InputType({ description: 'A new webhook.' })
export class CreateWebhookInput {
  @Field(() => String, {
    description:
      'Where notices go: an https (or http) address, at most 2,048 characters. Private addresses only where the server allows them.',
  })
  url!: string;

  @Field(() => [NoticeKind], {
    nullable: true,
    description: 'What it is told; bad marks and their end, if not given.',
  })
  kinds?: KindName[] | null;

  @Field(() => WebhookScope, {
    nullable: true,
    description: 'Whose datasets it is about; your own, if not given.',
  })
  scope?: ScopeName | null;

  @Field(() => NameFilter, {
    nullable: true,
    description: 'Only datasets of such names; at most 100 in a list.',
  })
  datasets?: NameFilter | null;
}

@ObjectType({ description: 'The webhook that was made.' })
export class CreateWebhookPayload {
  @Field(() => WebhookType, { description: 'The webhook.' })
  webhook!: WebhookType;

  @Field(() => String, {
    description: 'What signatures are checked with (whsec_…). Keep it: it is shown this once.',
  })
  secret!: string;
}

@ObjectType({ description: 'A webhook after a change.' })
export class WebhookPayload {
  @Field(() => WebhookType, { description: 'The webhook; after its end, as it was.' })
  webhook!: WebhookType;

  @Field(() => Boolean, { description: 'false: it was so already.' })
  changed!: boolean;
}

@InputType({ description: 'Which webhook to enable, and from where.' })
export class EnableWebhookInput {
  @Field(() => ID, { description: 'Its id.' })
  id!: string;

  @Field(() => Boolean, {
    defaultValue: false,
    description: 'Leave out what happened meanwhile; else it goes on where it stopped.',
  })
  fromNow!: boolean;
}
