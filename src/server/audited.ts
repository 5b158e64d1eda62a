import type { GraphQLFieldResolver, GraphQLObjectType, GraphQLSchema } from 'graphql';
import type { Asked, AuditKind } from '../access/audit-trail.ts';
import type { Context } from '../api/context.ts';

type Resolver = GraphQLFieldResolver<unknown, Context>;

/** Who asks for this root field, for the audit trail. */
const askedBy = (
  context: Context,
  kind: AuditKind,
  field: string,
  operation: string | undefined,
): Asked => ({
  viewer: context.viewer,
  requestId: context.requestId,
  address: context.address,
  kind,
  field,
  operation,
});

function each(
  type: GraphQLObjectType | null | undefined,
  what: 'resolve' | 'subscribe',
  wrap: (name: string, resolver: Resolver) => Resolver,
): void {
  for (const field of Object.values(type?.getFields() ?? {})) {
    const resolver = field[what];
    if (resolver) field[what] = wrap(field.name, resolver as Resolver) as typeof resolver;
  }
}

/** The schema, with every root field on its way into the audit trail, whatever road leads to it. */
export function audited(schema: GraphQLSchema): GraphQLSchema {
  each(
    schema.getMutationType(),
    'resolve',
    (name, resolve) => async (root, args, context, info) => {
      const asked = askedBy(context, 'MUTATION', name, info.operation.name?.value);
      const work = async () => resolve(root, args, context, info);
      return context.means.trail.change(asked, work);
    },
  );
  const question =
    (kind: AuditKind) =>
    (name: string, resolve: Resolver): Resolver =>
    (root, args, context, info) => {
      const asked = askedBy(context, kind, name, info.operation.name?.value);
      const work = () => resolve(root, args, context, info);
      return context.means.trail.question(asked, work);
    };
  each(schema.getQueryType(), 'resolve', question('QUERY'));
  each(schema.getSubscriptionType(), 'subscribe', question('SUBSCRIPTION'));
  return schema;
}
