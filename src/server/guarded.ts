import { defaultFieldResolver, isObjectType, type GraphQLSchema } from 'graphql';
import { guardedFields } from '../access/fields.ts';
import { may } from '../access/policy.ts';
import type { Context } from '../api/context.ts';

/** The schema, with the fields that the policy guards told to those alone who may know them. */
export function guarded(schema: GraphQLSchema): GraphQLSchema {
  for (const [name, { action, otherwise }] of Object.entries(guardedFields)) {
    const [typeName = '', fieldName = ''] = name.split('.');
    const type = schema.getType(typeName);
    const field = isObjectType(type) ? type.getFields()[fieldName] : undefined;
    if (!field) throw new Error(`the policy guards ${name}, which is no field`);
    const { resolve = defaultFieldResolver } = field;
    field.resolve = (root, args, context: Context, info) =>
      may(context.viewer, action) ? resolve(root, args, context, info) : otherwise;
  }
  return schema;
}
