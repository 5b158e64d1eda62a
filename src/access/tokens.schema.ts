import { Field, InputType, Int, ObjectType } from 'type-graphql';
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

@ObjectType({ description: 'What a token is narrowed to, and by whom you are known.' })
export class ViewerToken {
  @Field(() => String, {
    nullable: true,
    description: 'Prefix of an API token; null for one of an issuer.',
  })
  prefix!: string | null;

  @Field(() => String, { nullable: true, description: 'Issuer of a JWT; null for an API token.' })
  issuer!: string | null;

  @Field(() => String, { nullable: true, description: 'Your subject (sub) at the issuer.' })
  subject!: string | null;

  @Field(() => [String], {
    nullable: true,
    description: 'The actions that it is narrowed to; null = all that the roles allow.',
  })
  scopes!: string[] | null;

  @Field(() => [String], {
    nullable: true,
    description: 'Sites that a role of yours is bound to; null = none is bound.',
  })
  sites!: string[] | null;

  @Field(() => [String], { description: 'Groups that the issuer vouches for.' })
  groups!: string[];
}

@ObjectType('Token', { description: 'An API token; its text is shown once, when it is made.' })
export class TokenType {
  @Field(() => String, { description: 'How it is told apart, and revoked.' })
  prefix!: string;

  @Field(() => String, { description: 'In whose name it acts.' })
  principal!: string;

  @Field(() => [Role], { description: 'What it allows.' })
  roles!: AnyRole[];

  @Field(() => [String], {
    nullable: true,
    description: 'Actions that it is narrowed to, or read; null = all that the roles allow.',
  })
  scopes!: string[] | null;

  @Field(() => [String], {
    nullable: true,
    description: 'Sites that it is good for, where the policy asks for one; null = every site.',
  })
  sites!: string[] | null;

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

  @Field(() => String, { nullable: true, description: 'The address that it last came from.' })
  lastUsedFrom!: string | null;
}

@InputType({ description: 'A new token.' })
export class CreateTokenInput {
  @Field(() => String, { description: 'In whose name it acts, 1 to 128 characters.' })
  principal!: string;

  @Field(() => [Role], { description: 'What it allows; at least one role, not ANONYMOUS.' })
  roles!: AnyRole[];

  @Field(() => [String], {
    nullable: true,
    description:
      'What it is narrowed to: read, and names of actions (docs/access.md); all that the roles allow, if not given.',
  })
  scopes?: string[] | null;

  @Field(() => [String], {
    nullable: true,
    description: 'Sites that it is good for, at most 100; every site, if not given.',
  })
  sites?: string[] | null;

  @Field(() => String, { nullable: true, description: 'What it is for.' })
  note?: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it ends; never, if not given.' })
  expiresAt?: Date | null;
}

@InputType({ description: 'A token that is to be replaced.' })
export class RotateTokenInput {
  @Field(() => String, {
    nullable: true,
    description: 'Its prefix; yours, if not given. Of others: for admins.',
  })
  prefix?: string | null;

  @Field(() => Int, {
    defaultValue: 0,
    description: 'Seconds that the old one is still good for, at most 2592000 (30 days).',
  })
  graceSeconds!: number;
}

@ObjectType({ description: 'The token that was made, and the one that it replaces.' })
export class RotateTokenPayload {
  @Field(() => String, { description: 'Its text. Keep it: it is shown this once.' })
  token!: string;

  @Field(() => TokenType, { description: 'What is kept of the new one.' })
  details!: TokenType;

  @Field(() => TokenType, { description: 'What is kept of the old one.' })
  replaced!: TokenType;
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

  @Field(() => [TokenType], {
    description:
      'What came of it by rotation and stood until now, the first 1,000 of it; all of it is revoked, if that was wanted.',
  })
  successors!: TokenType[];

  @Field(() => Boolean, { description: 'false: nothing was there to be revoked.' })
  changed!: boolean;
}
