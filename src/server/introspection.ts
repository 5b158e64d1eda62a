import { GraphQLError, Kind, visit, type DocumentNode, type FieldNode } from 'graphql';
import { anonymous, type AnyRole, type Viewer } from '../access/policy.ts';
import { shown } from '../errors.ts';

/** Which roles may ask what the schema is; undefined = everybody. */
export type Introspection = readonly AnyRole[] | undefined;

const asking = new WeakMap<DocumentNode, boolean>();

/** Whether a document asks what the schema is; `__typename` says nothing that the answer does not. */
export function asksForSchema(document: DocumentNode): boolean {
  const known = asking.get(document);
  if (known !== undefined) return known;
  let asks = false;
  visit(document, {
    [Kind.FIELD]: ({ name }: FieldNode) => {
      if (name.value === '__schema' || name.value === '__type') asks = true;
    },
  });
  asking.set(document, asks);
  return asks;
}

const mayIntrospect = (roles: Introspection, viewer: Viewer): boolean =>
  roles === undefined || viewer.roles.some((role) => roles.includes(role));

/** Refuses what asks for the schema, to whom it is not told. */
export function demandIntrospection(
  roles: Introspection,
  viewer: Viewer,
  document: DocumentNode,
): void {
  if (mayIntrospect(roles, viewer) || !asksForSchema(document)) return;
  throw new GraphQLError(`the schema is ${toldTo(roles, viewer)}`, {
    extensions: {
      code: isAnonymous(viewer) ? 'UNAUTHENTICATED' : 'FORBIDDEN',
      facts: { action: 'introspection', allowed: roles },
    },
  });
}

const isAnonymous = (viewer: Viewer) => viewer.roles.includes('ANONYMOUS');

const toldTo = (roles: Introspection, viewer: Viewer): string =>
  `told to ${roles?.join(', ') || 'nobody'} here${isAnonymous(viewer) ? ': send a token' : ''}`;

const ownWords = 60;

/**
 * Where a document or its variables do not fit the schema, GraphQL says by names of the schema what would: types, fields
 * that are required, values of enums. Whom the schema is not told hears of his own words alone.
 */
export function hintsFor(
  roles: Introspection,
  viewer: Viewer = anonymous,
  error: GraphQLError,
): GraphQLError {
  const { nodes, source, positions, path, originalError, extensions } = error;
  const isOfGraphQL = originalError === undefined || originalError instanceof GraphQLError;
  const written = nodes?.[0]?.loc;
  if (mayIntrospect(roles, viewer) || !isOfGraphQL || !written) return error;
  const [line = ''] = written.source.body.slice(written.start, written.end).split('\n');
  // Of a variable, where in its value.
  const within = /^Variable ".* at "([\w.[\]]{1,200})"; /s.exec(error.message)?.[1];
  const what = `${shown(line.slice(0, ownWords))}${within === undefined ? '' : `, at ${within},`}`;
  const message = `${what} does not fit the schema, which is ${toldTo(roles, viewer)}`;
  return new GraphQLError(message, { nodes, source, positions, path, extensions });
}
