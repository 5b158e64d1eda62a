import {
  getNamedType,
  getNullableType,
  isLeafType,
  isListType,
  type GraphQLField,
  type GraphQLObjectType,
} from 'graphql';
import {
  guardedFields,
  sights,
  toldOfRunInProduction,
  variedFields,
} from '../../../src/access/fields.ts';
import { actions, may, type AnyRole } from '../../../src/access/policy.ts';
import { connected, keys, typeOf } from './ask.ts';
import type { Viewer } from './world.ts';

export type Json = null | string | number | boolean | Json[] | { [field: string]: Json };
export type Row = { [field: string]: Json };

/** The nouns as an admin sees them, by their ids. */
export type World = ReadonlyMap<string, ReadonlyMap<string, Row>>;

export const textOf = (value: Json | undefined) => (typeof value === 'string' ? value : '');
export const nodesOf = (value: Json | undefined) =>
  ((value as Row | undefined)?.['nodes'] ?? []) as Row[];
const same = (one: Json, other: Json) => JSON.stringify(one) === JSON.stringify(other);
const idOf = (row: Row, field: string) => (row[field] as Row | null | undefined)?.['id'];

/** Who sees what, told once more and not taken from the policy. */
const producers: AnyRole[] = ['PRODUCER', 'OPERATOR', 'ADMIN'];
const isOperator = ({ role }: Viewer) => role === 'OPERATOR' || role === 'ADMIN';
const mayAlways: Record<string, AnyRole[]> = {
  readProduction: producers,
  readIncidents: producers,
  readBackups: [...producers, 'IMPORTER'],
};

/** Whose an object is, of which its action lets everybody see his own. */
const ownerFields: Record<string, string> = {
  FollowRule: 'createdBy',
  Import: 'requestedBy',
  Publication: 'requestedBy',
  PublicationQuota: 'name',
  StageRequest: 'principal',
  Webhook: 'owner',
};

/** The log is production's, but for what stands with a dataset, a container or a run that is done. */
const ofProduction = new Set([
  'FILE_REGISTERED',
  'MERGE_RECORDED',
  'BACKUP_STATUS',
  'INCIDENT_STATUS',
  'REPLICA_STATUS',
  'IMPORT_STATUS',
  'POOL_COPY_STATUS',
  'PUBLICATION_STATUS',
]);

/** What each viewer is told, beside what an admin is. */
export class Eyes {
  /** Fields of which somebody was told something. */
  readonly told = new Set<string>();
  /** Fields of which somebody was not told what others were. */
  readonly kept = new Set<string>();
  /** Types whose fields were compared. */
  readonly reached = new Set<string>();
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  private object(noun: string, id: Json | undefined): Row | undefined {
    return this.world.get(noun)?.get(textOf(id));
  }

  private seesDataset({ role, principal }: Viewer, id: Json | undefined): boolean {
    const dataset = this.object('Dataset', id);
    if (producers.includes(role) || dataset?.['isAvailable'] === true) return true;
    if (role === 'ANONYMOUS') return false;
    return (
      dataset?.['owner'] === principal || (principal === 'uma' && dataset?.['name'] === 'open')
    );
  }

  private isOfOwner({ principal }: Viewer, id: Json | undefined): boolean {
    return this.object('Dataset', id)?.['owner'] === principal;
  }

  private isPrivate(id: Json | undefined): boolean {
    return textOf(this.object('File', id)?.['lfn']) === '/user/p-backing';
  }

  private isDone(id: Json | undefined): boolean {
    return this.object('Run', id)?.['productionStatus'] === 'AVAILABLE';
  }

  private idOfLfn(lfn: Json | undefined): Json | undefined {
    return [...(this.world.get('File')?.values() ?? [])].find((file) => file['lfn'] === lfn)?.[
      'id'
    ];
  }

  private seesFile(viewer: Viewer, id: Json | undefined): boolean {
    // What a user is about to publish is his own and operators', and no business of production.
    if (this.isPrivate(id)) return isOperator(viewer);
    if (producers.includes(viewer.role)) return true;
    const file = this.object('File', id);
    if (file?.['kind'] !== 'MERGED_FILE') return false;
    if (nodesOf(file['datasets']).some((dataset) => this.seesDataset(viewer, dataset['id'])))
      return true;
    const isDone = nodesOf(file['runs']).some((run) => this.isDone(run['id']));
    return viewer.role === 'DQM' && file['isBackedUp'] === true && isDone;
  }

  private seesBackup(viewer: Viewer, id: Json | undefined): boolean {
    const record = this.object('BackupRecord', id);
    const fileId = idOf(record ?? {}, 'file');
    if (this.isPrivate(fileId)) return isOperator(viewer);
    if (mayAlways['readBackups']?.includes(viewer.role)) return true;
    return (
      record?.['status'] === 'CONFIRMED' &&
      nodesOf(this.object('File', fileId)?.['datasets']).some((dataset) =>
        this.seesDataset(viewer, dataset['id']),
      )
    );
  }

  private seesEvent(viewer: Viewer, row: Row): boolean {
    const kind = textOf(row['kind']);
    if (isOperator(viewer)) return true;
    if (producers.includes(viewer.role))
      return kind !== 'PUBLICATION_STATUS' && !this.isPrivate(idOf(row, 'file'));
    if (ofProduction.has(kind)) return false;
    if (idOf(row, 'dataset') !== undefined) return this.seesDataset(viewer, idOf(row, 'dataset'));
    if (idOf(row, 'container') !== undefined) return true;
    return kind.startsWith('RUN_') && this.isDone(idOf(row, 'run'));
  }

  /** An owner sees the part of an incident that is about his datasets. */
  private seesIncident(viewer: Viewer, noun: string, row: Row): boolean {
    if (producers.includes(viewer.role)) return true;
    if (viewer.role === 'ANONYMOUS') return false;
    if (noun === 'IncidentDataset') return this.isOfOwner(viewer, idOf(row, 'dataset'));
    if (noun === 'IncidentItem')
      return nodesOf(this.object('File', idOf(row, 'file'))?.['datasets']).some(({ id }) =>
        this.isOfOwner(viewer, id),
      );
    return nodesOf(this.object('Incident', row['id'])?.['datasets']).some((hit) =>
      this.isOfOwner(viewer, idOf(hit, 'dataset')),
    );
  }

  sees(viewer: Viewer, noun: string, row: Row): boolean {
    const { role, principal } = viewer;
    switch (noun) {
      case 'Dataset':
        return this.seesDataset(viewer, row['id']);
      case 'DatasetStatusEvent':
        return this.seesDataset(viewer, idOf(row, 'dataset'));
      case 'ContainerMember':
        return this.seesDataset(viewer, idOf(row, 'dataset'));
      case 'File':
        return this.seesFile(viewer, row['id']);
      case 'Relative':
        return this.seesFile(viewer, idOf(row, 'file'));
      case 'StagedFile':
        return this.seesFile(viewer, this.idOfLfn(row['lfn']));
      case 'Run':
        return producers.includes(role) || role === 'DQM' || this.isDone(row['id']);
      case 'RunEvent':
      case 'DatasetRun':
        return this.sees(viewer, 'Run', row['run'] as Row);
      case 'BackupRecord':
        return this.seesBackup(viewer, row['id']);
      case 'Incident':
      case 'IncidentDataset':
      case 'IncidentItem':
        return this.seesIncident(viewer, noun, row);
      case 'Event':
        return this.seesEvent(viewer, row);
      case 'Group':
        return isOperator(viewer) || (row['members'] as Json[]).includes(principal);
    }
    const action = actions.find((one) => one === sights[noun]);
    const owner = row[ownerFields[noun] ?? ''];
    return (
      action === undefined ||
      may({ principal, roles: [role] }, action, owner === undefined ? {} : textOf(owner))
    );
  }

  /** The counts of an incident hold files that are private to others, and are told with the incident alone. */
  private withoutCounts({ role }: Viewer, noun: string, row: Row): Row {
    const facts = noun === 'Event' && row['kind'] === 'INCIDENT_STATUS' ? row['facts'] : undefined;
    if (facts === undefined || role !== 'PRODUCER') return row;
    this.kept.add('Event.facts');
    const { what } = facts as Row;
    return { ...row, facts: what === undefined ? {} : { what } };
  }

  /** What is wrong with what this viewer is told of a field. */
  faultsOf(
    viewer: Viewer,
    name: string,
    field: GraphQLField<unknown, unknown>,
    is: Json,
    admins: Json,
  ): string[] {
    const rule = guardedFields[name];
    const fault = (what: string) => [
      `${name} ${what}: ${JSON.stringify(is)} of ${JSON.stringify(admins)}`,
    ];
    if (!isNothing(admins)) this.told.add(name);
    if ((rule || name in variedFields) && !same(is, admins)) this.kept.add(name);
    if (rule && !mayAlways[rule.action]?.includes(viewer.role)) {
      return same(is, rule.otherwise as Json) ? [] : fault('is told');
    }
    if (name in variedFields && name !== 'Event.facts' && !same(is, admins)) return [];
    const inner = getNamedType(field.type);
    if (isLeafType(inner)) return same(is, admins) ? [] : fault('differs');
    const node = connected(inner.name);
    if (node !== undefined) {
      return this.faultsOfConnection(viewer, node, is as Row, admins as Row, fault);
    }
    if (isListType(getNullableType(field.type))) {
      return this.faultsOfList(viewer, inner.name, is as Row[], admins as Row[], fault);
    }
    if (admins === null || is === null) {
      const isHidden = admins !== null && !this.sees(viewer, inner.name, admins as Row);
      return is === null && (admins === null || isHidden) ? [] : fault('is or is not there');
    }
    if (!this.sees(viewer, inner.name, admins as Row)) return fault('is there');
    return this.faultsIn(viewer, typeOf(inner.name), is as Row, admins as Row);
  }

  private faultsOfConnection(
    viewer: Viewer,
    node: string,
    is: Row,
    admins: Row,
    fault: (what: string) => string[],
  ): string[] {
    const isWhole = nodesOf(admins).length === Number(admins['totalCount']);
    if (!isWhole) return [];
    if (is['totalCount'] !== nodesOf(is).length) return fault('counts what it does not show');
    const { totalCount: _, nodes, edges: __, pageInfo: ___, ...more } = admins;
    return [
      ...this.faultsOfList(viewer, node, nodesOf(is), nodes as Row[], fault),
      ...this.faultsIn(viewer, typeOf(`${node}Connection`), is, more),
    ];
  }

  /** The same of a list, or of what a subscription told. */
  faultsOfList(
    viewer: Viewer,
    noun: string,
    is: readonly Row[],
    admins: readonly Row[],
    fault: (what: string) => string[],
  ): string[] {
    const seen = admins.filter((row) => this.sees(viewer, noun, row));
    if (is.length !== seen.length) return fault('lists otherwise');
    return seen.flatMap((row, index) => this.faultsIn(viewer, typeOf(noun), is[index] as Row, row));
  }

  faultsIn(viewer: Viewer, type: GraphQLObjectType, is: Row, told: Row): string[] {
    const admins = this.withoutCounts(viewer, type.name, told);
    const isSecret =
      admins['productionStatus'] === 'IN_PRODUCTION' && !producers.includes(viewer.role);
    const asked = Object.values(type.getFields()).filter((field) => field.name in admins);
    // An object that stands in another is known by its key alone.
    const key = keys[type.name]?.split(' ') ?? [];
    if (asked.some(({ name }) => !key.includes(name))) this.reached.add(type.name);
    return asked.flatMap((field) => {
      const value = is[field.name] ?? null;
      const name = `${type.name}.${field.name}`;
      if (isSecret && !toldOfRunInProduction.includes(field.name)) {
        return isNothing(value) ? [] : [`${name} is told: ${JSON.stringify(value)}`];
      }
      return this.faultsOf(viewer, name, field, value, admins[field.name] ?? null);
    });
  }
}

const isNothing = (value: Json) =>
  value === null ||
  (Array.isArray(value) && value.length === 0) ||
  (value as Row)['totalCount'] === 0;
