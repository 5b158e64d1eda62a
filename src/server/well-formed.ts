import type { GraphQLSchema } from 'graphql';
import type { Context } from '../api/context.ts';
import { badInput } from '../errors.ts';

/** Where in these arguments a text stands that has half of a character; undefined = nowhere. */
function illFormed(value: unknown, path: string): { path: string; text: string } | undefined {
  if (typeof value === 'string') return value.isWellFormed() ? undefined : { path, text: value };
  if (value === null || typeof value !== 'object' || value instanceof Date) return undefined;
  // Items of a bulk call are refused by themselves, and the others taken.
  if (Array.isArray(value) && value.some((item) => typeof item === 'object')) return undefined;
  for (const [name, inner] of Object.entries(value)) {
    const found = illFormed(inner, path === '' ? name : `${path}.${name}`);
    if (found) return found;
  }
  return undefined;
}

/**
 * The schema, whose mutations take no text that UTF-8 cannot write: on its way to the database every half of a character
 * would become the same sign, and two keys or names that are not the same would be.
 */
export function wellFormed(schema: GraphQLSchema): GraphQLSchema {
  for (const field of Object.values(schema.getMutationType()?.getFields() ?? {})) {
    const { resolve } = field;
    if (!resolve) throw new Error(`${field.name} does nothing`);
    field.resolve = (root, args, context: Context, info) => {
      const found = illFormed(args, '');
      if (found) throw badInput(found.path, found.text, 'must be well-formed Unicode text');
      return resolve(root, args, context, info);
    };
  }
  return schema;
}
