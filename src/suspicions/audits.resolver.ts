import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import type { Viewer } from '../access/policy.ts';
import { firstOptions } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import type { Db } from '../database/orm.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { findingsOf, listAudits, type AuditFindingRow, type AuditRow } from './audits.queries.ts';
import type { AuditKind as KindName } from './audits.rules.ts';
import { AuditFinding, AuditKind, StoreAudit, StoreAuditPayload } from './audits.schema.ts';
import { settleAlarm, startAudit } from './audits.service.ts';

function numberOf(id: string): number {
  if (/^\d{1,15}$/.test(id)) return Number(id);
  throw badInput('id', id, 'the number of an audit');
}

async function auditOf(db: Db, viewer: Viewer, id: number): Promise<AuditRow> {
  const [row] = await listAudits(db, viewer, { id });
  if (row) return row;
  throw new SweepbookError('NOT_FOUND', `audit ${id} is not known here`, { id });
}

@Resolver(() => StoreAudit)
export class AuditsResolver {
  @Query(() => [StoreAudit], {
    description: 'The last 50 audits, the newest first. For operators. FORBIDDEN.',
  })
  async storeAudits(
    @Ctx() { db, viewer }: Context,
    @Arg('store', () => String, { nullable: true, description: 'Of this store only.' })
    store: string | null,
    @Arg('id', () => ID, { nullable: true, description: 'This one only.' }) id:
      | string
      | null
      | undefined,
  ): Promise<AuditRow[]> {
    return listAudits(db, viewer, { store, ...(id == null ? {} : { id: numberOf(id) }) });
  }

  @Mutation(() => StoreAuditPayload, {
    description:
      'Starts an audit of a mass store, which workers carry out; one that is under way is answered with. For ' +
      'operators. NOT_FOUND.',
  })
  async startAudit(
    @Ctx() { db, viewer, means }: Context,
    @Arg('what', () => AuditKind, { description: 'Read back, or compare.' }) what: KindName,
    @Arg('store', () => String, { nullable: true, description: 'The default one, if not given.' })
    store: string | null,
  ) {
    const { id, changed } = await startAudit(db, viewer, store, what);
    means.ring();
    return { audit: await auditOf(db, viewer, id), changed, lostCount: 0 };
  }

  @Mutation(() => StoreAuditPayload, {
    description:
      'Says of an alarm that it is true (what was found bad is LOST, and asked for again) or that it is not. For ' +
      'operators. NOT_FOUND, ILLEGAL_TRANSITION.',
  })
  async settleAudit(
    @Ctx() { db, viewer, means }: Context,
    @Arg('id', () => ID, { description: 'The audit.' }) id: string,
    @Arg('isTrue', () => Boolean, { description: 'What it found is so.' }) isTrue: boolean,
  ) {
    const key = numberOf(id);
    const { lostCount } = await settleAlarm(db, viewer, key, isTrue);
    means.ring();
    return { audit: await auditOf(db, viewer, key), changed: true, lostCount };
  }

  @FieldResolver(() => [AuditFinding], {
    description: 'What was found: first what is bad, then what could not be read.',
  })
  async findings(
    @Ctx() { db }: Context,
    @Root() audit: AuditRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
  ): Promise<AuditFindingRow[]> {
    return findingsOf(db, audit.id, checkedFirst(first, pageLimits.others));
  }
}
