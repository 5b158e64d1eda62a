import { Arg, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from 'type-graphql';
import type { Context } from '../api/context.ts';
import type { Viewer as ViewerRow } from './policy.ts';
import {
  CreateTokenInput,
  CreateTokenPayload,
  RevokeTokenPayload,
  TokenType,
  Viewer,
} from './tokens.schema.ts';
import { createToken, listTokens, revokeToken, type TokenRow } from './tokens.service.ts';

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
}

@Resolver()
export class TokenResolver {
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

  @Mutation(() => RevokeTokenPayload, {
    description: 'Ends a token at once, also on open subscriptions. NOT_FOUND.',
  })
  async revokeToken(
    @Ctx() { db, viewer }: Context,
    @Arg('prefix', () => String, { description: 'Its prefix, as the list shows it.' })
    prefix: string,
  ): Promise<{ details: TokenRow; changed: boolean }> {
    const { row, changed } = await revokeToken(db, viewer, prefix);
    return { details: row, changed };
  }
}
