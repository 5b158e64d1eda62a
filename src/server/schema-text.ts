import { lexicographicSortSchema, printSchema } from 'graphql';
import { makeSchema } from './schema.ts';

/** The text of schema.graphql. */
export function schemaText(): string {
  return `# Made from the code by "npm run schema"; do not edit.\n\n${printSchema(lexicographicSortSchema(makeSchema()))}\n`;
}
