import { Arg, Ctx, Int, Query, Resolver } from 'type-graphql';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { listAuditTrail, type AuditEntryRow } from './audit-trail.queries.ts';
import { AuditEntryConnection, AuditTrailFilter } from './audit-trail.schema.ts';

@Resolver()
export class AuditTrailResolver {
  @Query(() => AuditEntryConnection, {
    description:
      'Who did what, from where and by which token, and what was refused; the newest first. For admins. INVALID_CURSOR.',
  })
  async auditTrail(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => AuditTrailFilter, {
      nullable: true,
      description: 'Which lines; all, if not given.',
    })
    filter: AuditTrailFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after?: string | null,
  ): Promise<Connection<AuditEntryRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listAuditTrail(db, viewer, filter ?? {}, page));
  }
}
