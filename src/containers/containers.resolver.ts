import { Arg, Ctx, FieldResolver, ID, Int, Query, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { nodeName, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import { writePlace, type EventRow } from '../events/events.queries.ts';
import { EventType } from '../events/events.schema.ts';
import {
  changesByEvents,
  containersByIds,
  containersOfDataset,
  findContainer,
  listContainers,
  type ChangeRow,
  type ContainerRow,
} from './containers.queries.ts';
import {
  ContainerChange,
  ContainerConnection,
  ContainerFilter,
  ContainerMemberConnection,
  ContainerType,
} from './containers.schema.ts';
import { listMembers, touchedBy, type MemberRow } from './members.queries.ts';

export async function loadContainers(context: Context, ids: readonly number[]) {
  return inOrder(ids, await containersByIds(context.db.fork(), ids), (row) => row.id);
}

export async function loadChanges(context: Context, eventIds: readonly number[]) {
  return inOrder(eventIds, await changesByEvents(context.db.fork(), eventIds), (row) => row.id);
}

@Resolver(() => ContainerType)
export class ContainerResolver {
  @Query(() => ContainerType, {
    nullable: true,
    description: 'The container of this name; null = there is none.',
  })
  async container(
    @Ctx() { db }: Context,
    @Arg('name', () => String, { description: 'Its name.' }) name: string,
  ): Promise<ContainerRow | undefined> {
    return findContainer(db.fork(), name);
  }

  @Query(() => ContainerConnection, { description: 'Containers, by name.' })
  async containers(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => ContainerFilter, { nullable: true, description: 'Which containers.' })
    filter: ContainerFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<ContainerRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listContainers(db.fork(), viewer, filter ?? {}, page));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() container: ContainerRow): string {
    return writeNodeId('Container', container.id);
  }
}

@Resolver(() => ContainerChange)
export class ContainerChangeResolver {
  @FieldResolver(() => String, {
    description: 'Its place in the log: a marker, once the log has settled up to it.',
  })
  cursor(@Ctx() { means }: Context, @Root() change: ChangeRow): string {
    return writePlace(means.epoch, change);
  }

  @FieldResolver(() => ContainerMemberConnection, {
    description: 'The datasets that came or left by it, as far as you see them now.',
  })
  async datasets(
    @Ctx() { db, viewer }: Context,
    @Root() change: ChangeRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<MemberRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const which = touchedBy(change.id);
    return toConnection(await listMembers(db.fork(), viewer, change.containerId, which, page));
  }
}

@Resolver(() => DatasetType)
export class DatasetContainersResolver {
  @FieldResolver(() => ContainerConnection, {
    description: 'The containers that list it, or do so again when it is cleared.',
  })
  async containers(
    @Ctx() { db, viewer }: Context,
    @Root() dataset: DatasetRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<ContainerRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const of = containersOfDataset(dataset.id);
    return toConnection(await listContainers(db.fork(), viewer, {}, page, of));
  }
}

@Resolver(() => EventType)
export class EventContainerResolver {
  @FieldResolver(() => ContainerType, {
    nullable: true,
    description: 'The container that it is about.',
  })
  async container(
    @Ctx() context: Context,
    @Root() event: EventRow,
  ): Promise<ContainerRow | undefined> {
    return event.containerId === null ? undefined : context.load(loadContainers, event.containerId);
  }
}

/** For `node(id)`. */
export async function findContainerNode(context: Context, id: number) {
  const container = await context.load(loadContainers, id);
  return container && { ...container, [nodeName]: 'Container' as const };
}
