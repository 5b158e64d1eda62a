import { workerData } from 'node:worker_threads';
import { buildSchema, execute, parse } from 'graphql';

/** A question for the schema alone, found valid and within all limits. */
export interface SchemaTask {
  readonly text: string;
  readonly operationName: string | undefined;
}

// What a schema tells of itself is all in its text.
const schema = buildSchema(String(workerData), { assumeValid: true, assumeValidSDL: true });

/** The answer as JSON: half a megabyte for all of the schema, a tenth of a second when it is asked for first. */
export function answer({ text, operationName }: SchemaTask): string {
  const found = execute({ schema, document: parse(text), operationName });
  if (found instanceof Promise || found.errors) throw new Error('the schema does not tell this');
  return `${JSON.stringify(found)}\n`;
}
