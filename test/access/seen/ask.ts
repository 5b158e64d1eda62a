import {
  getNamedType,
  isLeafType,
  isObjectType,
  type GraphQLField,
  type GraphQLObjectType,
} from 'graphql';
import { committedSchema } from '../../support/scene.ts';
import { goodArguments } from '../../hostile/places.ts';

/** What changes by itself. */
const leftOut = new Set([
  'marker',
  'freeBytes',
  'isUp',
  'Stuck.asOf',
  'detail',
  'Token.lastUsedAt',
  'Token.lastUsedFrom',
]);
const isLeftOut = (owner: string, name: string) =>
  leftOut.has(name) || leftOut.has(`${owner}.${name}`);

/** What tells one object from another, and who may see it: all that is asked of it where it stands in another. */
export const keys: Readonly<Record<string, string>> = {
  Dataset: 'id',
  File: 'id',
  Run: 'id',
  BackupRecord: 'id',
  Container: 'id',
  Incident: 'id',
  Import: 'id requestedBy',
  Event: 'cursor kind dataset { id } container { id } run { id } file { id }',
};
const nested = 20;

export const connected = (name: string) => /^(\w+)Connection$/.exec(name)?.[1];

export function typeOf(name: string): GraphQLObjectType {
  const type = committedSchema.getType(name);
  if (!isObjectType(type)) throw new Error(`no type ${name}`);
  return type;
}

/** All fields of a type, so many levels deep; of what has a key only that. */
export function selectionOf(type: GraphQLObjectType, depth = 2): string {
  return Object.values(type.getFields())
    .filter(({ name }) => !isLeftOut(type.name, name))
    .flatMap((field) => askFor(type.name, field, depth))
    .join(' ');
}

function askFor(owner: string, field: GraphQLField<unknown, unknown>, depth: number): string[] {
  const type = getNamedType(field.type);
  if (isLeafType(type)) return [`${field.name}${goodArguments(owner, field)}`];
  const node = connected(type.name);
  if (node !== undefined) {
    const of = keys[node] ?? (depth > 0 ? selectionOf(typeOf(node), depth - 1) : '');
    if (of === '' || depth === 0) return [];
    return [
      `${field.name}${goodArguments(owner, field, { first: nested })} { totalCount nodes { ${of} } }`,
    ];
  }
  if (!isObjectType(type) || (depth === 0 && !keys[type.name])) return [];
  const of = keys[type.name] ?? selectionOf(type, depth - 1);
  return [`${field.name}${goodArguments(owner, field)} { ${of} }`];
}

/** A root field with all that it tells; of a connection one page. */
export function askRoot(
  root: 'Query' | 'Subscription',
  field: GraphQLField<unknown, unknown>,
  more: Record<string, unknown> = {},
): string {
  const type = getNamedType(field.type);
  const node = connected(type.name);
  const given = goodArguments(root, field, more);
  if (isLeafType(type)) return `${field.name}${given}`;
  if (node === undefined) {
    const of = (root === 'Query' && keys[type.name]) || selectionOf(typeOf(type.name), 3);
    return `${field.name}${given} { ${of} }`;
  }
  // What stands in an event or in a list of its own is asked for in full.
  const of = (node !== 'Event' && keys[node]) || selectionOf(typeOf(node));
  const own = Object.values(typeOf(type.name).getFields())
    .filter(({ name }) => !['nodes', 'edges', 'pageInfo'].includes(name))
    .flatMap((inner) => askFor(type.name, inner, 1));
  return `${field.name}${given} { ${own.join(' ')} nodes { ${of} } edges { cursor node { __typename } }
    pageInfo { startCursor endCursor hasNextPage hasPreviousPage } }`;
}

/** Fields of a type that a walk asks for. */
export const askedFields = (type: GraphQLObjectType) =>
  Object.values(type.getFields()).filter(({ name }) => !isLeftOut(type.name, name));
