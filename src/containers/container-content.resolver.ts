import { Arg, Ctx, FieldResolver, Int, Resolver, Root } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { loadDatasets } from '../datasets/datasets.resolver.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import { badInput } from '../errors.ts';
import { isAfter } from '../events/event-feed.ts';
import { currentPlace, writePlace, type Place } from '../events/events.queries.ts';
import {
  lastChange,
  listChanges,
  type ChangeRow,
  type ContainerRow,
} from './containers.queries.ts';
import {
  ContainerChange,
  ContainerChangeConnection,
  ContainerDelta,
  ContainerMember,
  ContainerMemberConnection,
  ContainerType,
} from './containers.schema.ts';
import {
  cameBetween,
  countUnavailable,
  coversPlace,
  leftBetween,
  listMembers,
  listSuspended,
  type MemberRow,
} from './members.queries.ts';
import { beginning, eitherMoment, placeOf, presentPlace, readMarker } from './moments.queries.ts';

const asOfOptions = {
  nullable: true,
  description: 'As it was then; a moment in the past, with its zone.',
};
const markerOptions = {
  nullable: true,
  description: 'As it was at this place of the log: a marker, or any cursor of events.',
};

/** What `changedSince` and its fields need; the lists are read when they are asked for. */
interface Delta {
  readonly containerId: number;
  readonly from: Place;
  readonly until: Place;
}

async function momentOf(
  { db, means }: Context,
  container: ContainerRow,
  asOf: Date | null,
  marker: string | null,
): Promise<Place | undefined> {
  const moment = eitherMoment(means.epoch, 'asOf', asOf, marker);
  return moment && placeOf(db, container.id, moment, marker == null ? 'asOf' : 'marker');
}

@Resolver(() => ContainerType)
export class ContainerContentResolver {
  @FieldResolver(() => String, {
    description:
      'A marker of this moment. Read datasets with it, and later ask changedSince with it: nothing is missed, ' +
      'nothing is told twice.',
  })
  async marker(@Ctx() { db, means }: Context): Promise<string> {
    return writePlace(means.epoch, await currentPlace(db.fork()));
  }

  @FieldResolver(() => ContainerMemberConnection, {
    description:
      'The datasets that it lists, by name, now or as of a moment, as far as you see them now. The same moment ' +
      'gives the same list whenever it is asked for. BAD_USER_INPUT (the future), INVALID_CURSOR, CURSOR_TOO_OLD.',
  })
  async datasets(
    @Ctx() context: Context,
    @Root() container: ContainerRow,
    @Arg('asOf', () => DateTime, asOfOptions) asOf: Date | null,
    @Arg('marker', () => String, markerOptions) marker: string | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<MemberRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const which = coversPlace(await momentOf(context, container, asOf, marker));
    return toConnection(
      await listMembers(context.db.fork(), context.viewer, container.id, which, page),
    );
  }

  @FieldResolver(() => SafeInt, {
    description:
      'How many of the datasets that it listed are bad now: lists leave them out, unless you may see them.',
  })
  async unavailableCount(
    @Ctx() context: Context,
    @Root() container: ContainerRow,
    @Arg('asOf', () => DateTime, asOfOptions) asOf: Date | null,
    @Arg('marker', () => String, markerOptions) marker: string | null,
  ): Promise<number> {
    const which = coversPlace(await momentOf(context, container, asOf, marker));
    return countUnavailable(context.db.fork(), container.id, which);
  }

  @FieldResolver(() => ContainerMemberConnection, {
    description:
      'Datasets that left because they are bad, and come back when they are cleared; for those who see bad datasets.',
  })
  async suspendedDatasets(
    @Ctx() { db, viewer }: Context,
    @Root() container: ContainerRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<MemberRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listSuspended(db.fork(), viewer, container.id, page));
  }

  @FieldResolver(() => ContainerChangeConnection, {
    description: 'All that ever came and left, oldest first.',
  })
  async history(
    @Ctx() { db }: Context,
    @Root() container: ContainerRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<ChangeRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listChanges(db.fork(), container.id, page));
  }

  @FieldResolver(() => ContainerChange, {
    nullable: true,
    description:
      'The last line of its history, or the last one as of a moment; its total is what there was then. ' +
      'null = nothing had come in yet.',
  })
  async lastChange(
    @Ctx() context: Context,
    @Root() container: ContainerRow,
    @Arg('asOf', () => DateTime, asOfOptions) asOf: Date | null,
    @Arg('marker', () => String, markerOptions) marker: string | null,
  ): Promise<ChangeRow | undefined> {
    const place = await momentOf(context, container, asOf, marker);
    return lastChange(context.db.fork(), container.id, place);
  }

  @FieldResolver(() => ContainerDelta, {
    description:
      'What is new and what has left since a time or a marker (since the beginning, if neither is given). ' +
      'BAD_USER_INPUT, INVALID_CURSOR, CURSOR_TOO_OLD.',
  })
  async changedSince(
    @Ctx() { db, means }: Context,
    @Root() container: ContainerRow,
    @Arg('since', () => DateTime, { nullable: true, description: 'After this time.' })
    since: Date | null,
    @Arg('marker', () => String, { nullable: true, description: 'After this place of the log.' })
    marker: string | null,
    @Arg('until', () => String, {
      nullable: true,
      description:
        'Up to this marker; now, if not given. For the next page: the marker of the first.',
    })
    untilMarker: string | null,
  ): Promise<Delta> {
    const moment = eitherMoment(means.epoch, 'since', since, marker);
    const field = marker == null ? 'since' : 'marker';
    const from = moment ? await placeOf(db, container.id, moment, field) : beginning;
    const until =
      untilMarker == null
        ? await presentPlace(db, from)
        : await placeOf(db, container.id, readMarker(means.epoch, 'until', untilMarker), 'until');
    if (isAfter(from, until)) throw badInput('until', untilMarker, `lies before ${field}`);
    return { containerId: container.id, from, until };
  }
}

@Resolver(() => ContainerDelta)
export class ContainerDeltaResolver {
  @FieldResolver(() => String, {
    description: 'The moment up to which this is told: keep it, and ask from there the next time.',
  })
  marker(@Ctx() { means }: Context, @Root() delta: Delta): string {
    return writePlace(means.epoch, delta.until);
  }

  @FieldResolver(() => SafeInt, {
    description:
      'Of those that left, how many are bad now. Their names are told to who may see them, and to who asks by name.',
  })
  async unavailableCount(@Ctx() { db }: Context, @Root() delta: Delta): Promise<number> {
    const which = leftBetween(delta.from, delta.until);
    return countUnavailable(db.fork(), delta.containerId, which);
  }

  @FieldResolver(() => ContainerMemberConnection, {
    description: 'Datasets that are new, by name, as far as you see them now.',
  })
  async added(
    @Ctx() { db, viewer }: Context,
    @Root() { containerId, from, until }: Delta,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<MemberRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const which = cameBetween(from, until);
    return toConnection(await listMembers(db.fork(), viewer, containerId, which, page));
  }

  @FieldResolver(() => ContainerMemberConnection, {
    description: 'Datasets that have left, by name, with the reason, as far as you see them now.',
  })
  async removed(
    @Ctx() { db, viewer }: Context,
    @Root() { containerId, from, until }: Delta,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<MemberRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const which = leftBetween(from, until);
    return toConnection(await listMembers(db.fork(), viewer, containerId, which, page));
  }
}

@Resolver(() => ContainerMember)
export class ContainerMemberResolver {
  @FieldResolver(() => DatasetType, {
    nullable: true,
    description: 'The dataset; null = it has just been hidden from you.',
  })
  async dataset(
    @Ctx() context: Context,
    @Root() member: MemberRow,
  ): Promise<DatasetRow | undefined> {
    return context.load(loadDatasets, member.datasetId);
  }
}
