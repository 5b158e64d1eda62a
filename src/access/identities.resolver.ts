import { Arg, Ctx, Int, Mutation, Query, Resolver } from 'type-graphql';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { blockIdentity, listIdentities, type IdentityRow } from './identities.service.ts';
import { BlockIdentityInput, IdentityConnection, IdentityPayload } from './identities.schema.ts';

@Resolver()
export class IdentityResolver {
  @Query(() => IdentityConnection, {
    description: 'Who came with a JWT of an issuer that is trusted, by name. For admins.',
  })
  async identities(
    @Ctx() { db, viewer }: Context,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after?: string | null,
  ): Promise<Connection<IdentityRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listIdentities(db, viewer, page));
  }

  @Mutation(() => IdentityPayload, {
    description:
      'Keeps somebody out whatever his issuer says, also on open subscriptions. For admins. NOT_FOUND.',
  })
  async blockIdentity(
    @Ctx() { db, viewer }: Context,
    @Arg('input', () => BlockIdentityInput, { description: 'Who, and why.' })
    { principal, reason }: BlockIdentityInput,
  ): Promise<{ identity: IdentityRow; changed: boolean }> {
    return blockIdentity(db, viewer, principal, reason);
  }

  @Mutation(() => IdentityPayload, {
    description: 'Lets somebody in again. For admins. NOT_FOUND.',
  })
  async unblockIdentity(
    @Ctx() { db, viewer }: Context,
    @Arg('principal', () => String, { description: 'His name, as the list shows it.' })
    principal: string,
  ): Promise<{ identity: IdentityRow; changed: boolean }> {
    return blockIdentity(db, viewer, principal, null);
  }
}
