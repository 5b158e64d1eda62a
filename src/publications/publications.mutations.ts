import { Arg, Ctx, ID, Mutation, Resolver } from 'type-graphql';
import { demand } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { badInput } from '../errors.ts';
import { demandPublishing } from '../storage/publish-settings.ts';
import { loadPublications, publicationIdOf, quotaAnswer } from './publications.resolver.ts';
import {
  DecidePublicationInput,
  PublicationPayload,
  PublicationQuota,
  RequestPublicationInput,
  SetPublicationQuotaInput,
  WithdrawPublicationInput,
} from './publications.schema.ts';
import {
  decidePublication,
  retryPublication,
  withdrawPublication,
} from './publications.service.ts';
import { quotaOf, setQuota } from './quotas.service.ts';
import { requestPublication, type PublicationChange } from './request.service.ts';

async function answer(context: Context, { publicationId, changed }: PublicationChange) {
  if (changed) context.means.ring();
  return { publication: await context.load(loadPublications, publicationId), changed };
}

@Resolver()
export class PublicationMutations {
  @Mutation(() => PublicationPayload, {
    description:
      'Publishes files of yours: they are checked, merged into composite files, backed up, and become a closed dataset ' +
      'that everybody sees; all of it in the background. The same request while it is under way is no second one. ' +
      'SOURCE_NOT_ALLOWED, DUPLICATE (a name is taken, a file stands twice), QUOTA_EXCEEDED, BAD_USER_INPUT. For users.',
  })
  async requestPublication(
    @Ctx() context: Context,
    @Arg('input', () => RequestPublicationInput, { description: 'What, and as what.' })
    { idempotencyKey, ...input }: RequestPublicationInput,
  ) {
    const { means, viewer } = context;
    return answer(context, await requestPublication(means, viewer, input, idempotencyKey));
  }

  @Mutation(() => PublicationPayload, {
    description:
      'Calls a publication off before it is PUBLISHED: what it wrote is removed from disk, and from mass stores that can ' +
      'remove. NOT_FOUND, ILLEGAL_TRANSITION (it is over). For its owner and operators.',
  })
  async withdrawPublication(
    @Ctx() context: Context,
    @Arg('input', () => WithdrawPublicationInput, { description: 'Which one, and why.' })
    { publication, reason }: WithdrawPublicationInput,
  ) {
    const { db, viewer } = context;
    const id = publicationIdOf(publication);
    return answer(context, await withdrawPublication(db, viewer, id, reason));
  }

  @Mutation(() => PublicationPayload, {
    description:
      'Says whether a publication that is AWAITING_APPROVAL may go on; a no needs a reason and ends it. NOT_FOUND, ' +
      'ILLEGAL_TRANSITION (nobody waits for a decision). For operators.',
  })
  async decidePublication(
    @Ctx() context: Context,
    @Arg('input', () => DecidePublicationInput, { description: 'Yes or no, and why.' })
    { publication, approve, reason }: DecidePublicationInput,
  ) {
    const { db, viewer } = context;
    const id = publicationIdOf(publication);
    const decision = { id, isApproved: approve, reason };
    return answer(context, await decidePublication(db, viewer, decision));
  }

  @Mutation(() => PublicationPayload, {
    description:
      'Tries again at once what waits for its next attempt, and backups that FAILED. NOT_FOUND, ILLEGAL_TRANSITION (it ' +
      'is over: publish again). For its owner and operators.',
  })
  async retryPublication(
    @Ctx() context: Context,
    @Arg('publication', () => ID, { description: 'Its number or id.' }) id: string,
  ) {
    const { means, viewer } = context;
    return answer(context, await retryPublication(means, viewer, publicationIdOf(id)));
  }

  @Mutation(() => PublicationQuota, {
    description: 'Sets what a user or a group may publish. BAD_USER_INPUT. For operators.',
  })
  async setPublicationQuota(
    @Ctx() { means, db, viewer }: Context,
    @Arg('input', () => SetPublicationQuotaInput, { description: 'Whose, and how much.' })
    { kind, name, files, bytes, running }: SetPublicationQuotaInput,
  ): Promise<PublicationQuota> {
    const given = [files, bytes, running].filter((number) => number != null).length;
    if (given !== 0 && given !== 3) {
      throw badInput('files', files ?? null, 'give files, bytes and running, or none of them');
    }
    demand(viewer, 'managePublishing');
    const settings = demandPublishing(means.publish);
    const holder = { kind, name };
    const limit = { files: files ?? 0, bytes: bytes ?? 0, running: running ?? 0 };
    await setQuota(db, viewer, holder, given === 0 ? null : limit);
    return quotaAnswer(await quotaOf(db.fork(), viewer, settings, holder));
  }
}
