import { Arg, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from 'type-graphql';
import type { Context } from '../api/context.ts';
import type { Viewer as ViewerRow } from './policy.ts';
import {
  CreateTokenInput,
  CreateTokenPayload,
  RevokeTokenPayload,
  RotateTokenInput,
  RotateTokenPayload,
  TokenType,
  Viewer,
  ViewerToken,
} from './tokens.schema.ts';
import {
  createToken,
  listTokens,
  prefixesOf,
  revokeToken,
  rotateToken,
  type TokenRow,
} from './tokens.service.ts';

@Resolver(() => Viewer)
export class ViewerResolver {
  @Query(() => Viewer, { description: 'Who you are to this server, and what you may do.' })
  viewer(@Ctx() { viewer }: Context): ViewerRow {
    return viewer;
  }

  @FieldResolver(() => String, { description: 'The same as principal.' })
  name(@Root() viewer: ViewerRow): string {
    return viewer.principal;
  }

  @FieldResolver(() => ViewerToken, {
    nullable: true,
    description: 'The token that you show; null without one.',
  })
  token(@Root() viewer: ViewerRow): ViewerToken | null {
    const { credential, scopes, sites, groups } = viewer;
    if (!credential) return null;
    const isOurs = credential.kind === 'TOKEN';
    return {
      prefix: isOurs ? credential.prefix : null,
      issuer: isOurs ? null : credential.issuer,
      subject: isOurs ? null : credential.subject,
      scopes: scopes ? [...scopes] : null,
      sites: sites ? [...new Set(Object.values(sites).flat())] : null,
      groups: [...(groups ?? [])],
    };
  }
}

/** Prefixes by id. */
async function loadPrefixes({ db }: Context, ids: readonly number[]): Promise<(string | null)[]> {
  const found = await prefixesOf(db, ids);
  return ids.map((id) => found.get(id) ?? null);
}

@Resolver(() => TokenType)
export class TokenResolver {
  @FieldResolver(() => String, {
    nullable: true,
    description: 'Prefix of the token that was replaced by it (rotateToken).',
  })
  async replaces(@Ctx() context: Context, @Root() token: TokenRow): Promise<string | null> {
    return token.replaces == null ? null : context.load(loadPrefixes, token.replaces);
  }

  @Query(() => [TokenType], { description: 'All tokens, oldest first. For admins.' })
  async tokens(@Ctx() { db, viewer }: Context): Promise<TokenRow[]> {
    return listTokens(db, viewer);
  }

  @Mutation(() => CreateTokenPayload, { description: 'Makes a token. For admins. BAD_USER_INPUT.' })
  async createToken(
    @Ctx() { db, viewer }: Context,
    @Arg('input', () => CreateTokenInput, { description: 'Whose it is and what it allows.' })
    input: CreateTokenInput,
  ): Promise<{ token: string; details: TokenRow }> {
    const made = await createToken(db, viewer, input);
    return { token: made.text, details: made.row };
  }

  @Mutation(() => RotateTokenPayload, {
    description:
      'Replaces a token by a new one for the same use: the one you show, or for admins any. It ends when the old one would have. BAD_USER_INPUT, NOT_FOUND.',
  })
  async rotateToken(
    @Ctx() { db, viewer }: Context,
    @Arg('input', () => RotateTokenInput, { description: 'Which one, and how the old one ends.' })
    input: RotateTokenInput,
  ): Promise<{ token: string; details: TokenRow; replaced: TokenRow }> {
    const { text, row, replaced } = await rotateToken(db, viewer, input);
    return { token: text, details: row, replaced };
  }

  @Mutation(() => RevokeTokenPayload, {
    description:
      'Ends a token at once, also on open subscriptions; what came of it by rotation, if that is wanted. NOT_FOUND.',
  })
  async revokeToken(
    @Ctx() { db, viewer }: Context,
    @Arg('prefix', () => String, { description: 'Its prefix, as the list shows it.' })
    prefix: string,
    @Arg('withSuccessors', () => Boolean, {
      defaultValue: false,
      description: 'What came of it by rotation, too: whoever had it may have rotated it.',
    })
    withSuccessors: boolean,
  ): Promise<{ details: TokenRow; successors: TokenRow[]; changed: boolean }> {
    const { row, ...rest } = await revokeToken(db, viewer, { prefix, withSuccessors });
    return { details: row, ...rest };
  }
}
