import { Field, InputType, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { DateTime } from '../api/scalars.ts';
import type { AnyRole } from './policy.ts';

export const Role = enumType<AnyRole>(
  'Role',
  'What somebody may do; a token carries one or more.',
  {
    ANONYMOUS: 'Shows no token: reads what is closed and not bad.',
    USER: 'Reads what is closed and not bad, and his own datasets always.',
    DQM: 'Learns which runs are in production, gives verdicts.',
    PRODUCER:
      'Registers runs and files, records merges, backs up, makes and sweeps his own datasets.',
    IMPORTER: 'Brings in datasets of other sites.',
    OPERATOR: 'Takes every step of the life cycle; marks datasets bad.',
    ADMIN: 'Tokens, waivers, taking bad marks off.',
  },
);

@ObjectType({ description: 'Who you are to this server.' })
export class Viewer {
  @Field(() => String, { description: 'The name that stands in events.' })
  principal!: string;

  @Field(() => [Role], { description: 'What you may do.' })
  roles!: AnyRole[];

  @Field(() => DateTime, { nullable: true, description: 'When your token ends.' })
  expiresAt!: Date | null;
}

@ObjectType('Token', { description: 'An API token; its text is shown once, when it is made.' })
export class TokenType {
  @Field(() => String, { description: 'How it is told apart, and revoked.' })
  prefix!: string;

  @Field(() => String, { description: 'In whose name it acts.' })
  principal!: string;

  @Field(() => [Role], { description: 'What it allows.' })
  roles!: AnyRole[];

  @Field(() => String, { nullable: true, description: 'What it is for.' })
  note!: string | null;

  @Field(() => DateTime, { description: 'When it was made.' })
  createdAt!: Date;

  @Field(() => String, { description: 'Who made it.' })
  createdBy!: string;

  @Field(() => DateTime, { nullable: true, description: 'When it ends.' })
  expiresAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was revoked.' })
  revokedAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was last shown, to the minute.' })
  lastUsedAt!: Date | null;
}

@InputType({ description: 'A new token.' })
export class CreateTokenInput {
  @Field(() => String, { description: 'In whose name it acts, 1 to 128 characters.' })
  principal!: string;

  @Field(() => [Role], { description: 'What it allows; at least one role, not ANONYMOUS.' })
  roles!: AnyRole[];

  @Field(() => String, { nullable: true, description: 'What it is for.' })
  note?: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it ends; never, if not given.' })
  expiresAt?: Date | null;
}

@ObjectType({ description: 'The token that was made.' })
export class CreateTokenPayload {
  @Field(() => String, {
    description: 'Its text. Keep it: it is shown this once and stored nowhere.',
  })
  token!: string;

  @Field(() => TokenType, { description: 'What is kept of it.' })
  details!: TokenType;
}

@ObjectType({ description: 'The token that was ended.' })
export class RevokeTokenPayload {
  @Field(() => TokenType, { description: 'What is kept of it.' })
  details!: TokenType;

  @Field(() => Boolean, { description: 'false: it was revoked already.' })
  changed!: boolean;
}
