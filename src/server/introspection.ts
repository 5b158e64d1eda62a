import { GraphQLError, Kind, visit, type DocumentNode, type FieldNode } from 'graphql';
import { anonymous, type AnyRole, type Viewer } from '../access/policy.ts';

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
  const isAnonymous = viewer.roles.includes('ANONYMOUS');
  throw new GraphQLError(
    `the schema is told to ${roles?.join(', ') || 'nobody'} here${isAnonymous ? ': send a token' : ''}`,
    {
      extensions: {
        code: isAnonymous ? 'UNAUTHENTICATED' : 'FORBIDDEN',
        facts: { action: 'introspection', allowed: roles },
      },
    },
  );
}

/** GraphQL helps who mistypes by names of the schema: not whom the schema is not told. */
export function hintsFor(
  roles: Introspection,
  viewer: Viewer | undefined,
  error: GraphQLError,
): GraphQLError {
  if (mayIntrospect(roles, viewer ?? anonymous)) return error;
  const { nodes, source, positions, path, originalError, extensions } = error;
  const message = error.message.replace(/ Did you mean .*$/s, '');
  if (message === error.message) return error;
  return new GraphQLError(message, { nodes, source, positions, path, originalError, extensions });
}
