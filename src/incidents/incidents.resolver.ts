import { Arg, Ctx, FieldResolver, ID, Int, Query, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { nodeName, readNodeId, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { BadMarkRow } from '../datasets/datasets.queries.ts';
import { loadDatasets } from '../datasets/datasets.resolver.ts';
import { BadMark, DatasetType } from '../datasets/datasets.schema.ts';
import { badInput } from '../errors.ts';
import { eventConditions, listEvents, type EventRow } from '../events/events.queries.ts';
import { EventConnection, EventType } from '../events/events.schema.ts';
import type { FileRow } from '../files/files.queries.ts';
import { loadFiles } from '../files/files.resolver.ts';
import { FileType } from '../files/files.schema.ts';
import { ReplicaCheck } from './checks.schema.ts';
import {
  checksOfFiles,
  incidentsByIds,
  listIncidentDatasets,
  listIncidents,
  listItems,
  markIncidentsOf,
  type CheckRow,
  type IncidentDatasetRow,
  type IncidentItemRow,
  type IncidentRow,
} from './incidents.queries.ts';
import {
  IncidentConnection,
  IncidentDataset,
  IncidentDatasetConnection,
  IncidentFilter,
  IncidentItem,
  IncidentItemConnection,
  IncidentItemFilter,
  IncidentType,
} from './incidents.schema.ts';

export async function loadIncidents(context: Context, ids: readonly number[]) {
  return inOrder(
    ids,
    await incidentsByIds(context.db.fork(), context.viewer, ids),
    (row) => row.id,
  );
}

async function loadMarkIncidents(context: Context, ids: readonly number[]) {
  return inOrder(ids, await markIncidentsOf(context.db.fork(), ids), (row) => row.datasetId);
}

async function loadChecks(context: Context, ids: readonly number[]): Promise<CheckRow[][]> {
  const found = Map.groupBy(await checksOfFiles(context.db.fork(), ids), (row) => row.fileId);
  return ids.map((id) => found.get(id) ?? []);
}

/** The row number of an incident, as people (7) or programs (its node id) name it. */
export function incidentIdOf(given: string): number {
  if (/^\d{1,15}$/.test(given)) return Number(given);
  const key = readNodeId(given);
  if (key?.name === 'Incident') return key.id;
  throw badInput('incident', given, 'the number or the id of an incident: look at "incident list"');
}

/** What was named as lost, in words. */
function scopeText(scope: Record<string, unknown>): string {
  const list = (value: unknown) => (value as { count: number }).count;
  const words: Record<string, (value: unknown) => string> = {
    volume: (value) => `volume ${value}`,
    massStore: (value) => `mass store ${value}`,
    site: (value) => `site ${value}`,
    pathPrefix: (value) => `paths ${value}…`,
    paths: (value) => `${list(value)} paths`,
    lfns: (value) => `${list(value)} files`,
    replicas: (value) => `${list(value)} copies that were read`,
  };
  return Object.entries(words)
    .flatMap(([field, say]) => (scope[field] == null ? [] : [say(scope[field])]))
    .join(', ');
}

@Resolver(() => IncidentType)
export class IncidentResolver {
  @Query(() => IncidentType, {
    nullable: true,
    description: 'The incident of this id or number; null = none that you see.',
  })
  async incident(
    @Ctx() context: Context,
    @Arg('id', () => ID, { description: 'Its id, or its number.' }) id: string,
  ): Promise<IncidentRow | undefined> {
    return context.load(loadIncidents, incidentIdOf(id));
  }

  @Query(() => IncidentConnection, {
    description: 'Losses of storage, the last one first; to an owner those that hit his datasets.',
  })
  async incidents(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => IncidentFilter, { nullable: true, description: 'Which incidents.' })
    filter: IncidentFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<IncidentRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listIncidents(db.fork(), viewer, filter ?? {}, page));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() incident: IncidentRow): string {
    return writeNodeId('Incident', incident.id);
  }

  @FieldResolver(() => Int, { description: 'Its number, as people call it.' })
  number(@Root() incident: IncidentRow): number {
    return incident.id;
  }

  @FieldResolver(() => String, {
    nullable: true,
    description: 'What was named as lost; for producers and operators.',
  })
  scope(@Root() incident: IncidentRow): string | null {
    return incident.scope && scopeText(incident.scope);
  }

  @FieldResolver(() => IncidentItemConnection, {
    description: 'The copies that were hit, last copies first; to an owner those of his datasets.',
  })
  async items(
    @Ctx() { db, viewer }: Context,
    @Root() incident: IncidentRow,
    @Arg('filter', () => IncidentItemFilter, { nullable: true, description: 'Which copies.' })
    filter: IncidentItemFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<IncidentItemRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    return toConnection(await listItems(db.fork(), viewer, incident.id, filter ?? {}, page));
  }

  @FieldResolver(() => IncidentDatasetConnection, {
    description: 'The datasets that were hit, by name; to an owner his own.',
  })
  async datasets(
    @Ctx() { db, viewer }: Context,
    @Root() incident: IncidentRow,
    @Arg('isMarked', () => Boolean, {
      nullable: true,
      description: 'That carry its mark now, or do not.',
    })
    isMarked: boolean | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<IncidentDatasetRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listIncidentDatasets(db.fork(), viewer, incident.id, isMarked, page));
  }

  @FieldResolver(() => EventConnection, {
    description: 'All that happened to it, oldest first, as far as you may see the log.',
  })
  async history(
    @Ctx() { db, viewer, means }: Context,
    @Root() incident: IncidentRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<EventRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const where = eventConditions(viewer, { incidentId: incident.id });
    return toConnection(await listEvents(db.fork(), means.epoch, where, page));
  }
}

@Resolver(() => IncidentItem)
export class IncidentItemResolver {
  @FieldResolver(() => FileType, { nullable: true, description: 'The file, if you see it.' })
  async file(@Ctx() context: Context, @Root() item: IncidentItemRow): Promise<FileRow | undefined> {
    return context.load(loadFiles, item.fileId);
  }
}

@Resolver(() => IncidentDataset)
export class IncidentDatasetResolver {
  @FieldResolver(() => DatasetType, { nullable: true, description: 'The dataset, if you see it.' })
  async dataset(@Ctx() context: Context, @Root() hit: IncidentDatasetRow) {
    return context.load(loadDatasets, hit.datasetId);
  }
}

@Resolver(() => BadMark)
export class BadMarkIncidentResolver {
  @FieldResolver(() => IncidentType, {
    nullable: true,
    description: 'The incident that set it, if you see it.',
  })
  async incident(
    @Ctx() context: Context,
    @Root() mark: BadMarkRow,
  ): Promise<IncidentRow | undefined> {
    const found = await context.load(loadMarkIncidents, mark.datasetId);
    return found?.incidentId == null ? undefined : context.load(loadIncidents, found.incidentId);
  }
}

@Resolver(() => EventType)
export class EventIncidentResolver {
  @FieldResolver(() => IncidentType, {
    nullable: true,
    description: 'The incident that it is about, if you see it.',
  })
  async incident(
    @Ctx() context: Context,
    @Root() event: EventRow,
  ): Promise<IncidentRow | undefined> {
    return event.incidentId === null ? undefined : context.load(loadIncidents, event.incidentId);
  }
}

@Resolver(() => FileType)
export class FileChecksResolver {
  @FieldResolver(() => [ReplicaCheck], {
    description:
      'The last readings of its copies on disk, the latest first, at most 20; for producers and operators, ' +
      'empty for others.',
  })
  async replicaChecks(@Ctx() context: Context, @Root() file: FileRow): Promise<CheckRow[]> {
    return context.load(loadChecks, file.id);
  }
}

/** For `node(id)`. */
export async function findIncidentNode(context: Context, id: number) {
  const incident = await context.load(loadIncidents, id);
  return incident && { ...incident, [nodeName]: 'Incident' as const };
}
