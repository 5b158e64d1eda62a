import { setPriority } from 'node:os';
import { workerData } from 'node:worker_threads';

/** A question for the schema alone, found valid and within all limits. */
export interface SchemaTask {
  readonly text: string;
  readonly operationName: string | undefined;
}

// What others ask goes first. On Linux this is of the thread alone, elsewhere of the whole process.
if (process.platform === 'linux') setPriority(10);
// Only then: to load it takes longer than to answer.
const { buildSchema, execute, parse } = await import('graphql');

// What a schema tells of itself is all in its text.
const schema = buildSchema(String(workerData), { assumeValid: true, assumeValidSDL: true });

/** The answer as JSON: half a megabyte for all of the schema, a tenth of a second when it is asked for first. */
export function answer({ text, operationName }: SchemaTask): string {
  const found = execute({ schema, document: parse(text), operationName });
  if (found instanceof Promise || found.errors) throw new Error('the schema does not tell this');
  return `${JSON.stringify(found)}\n`;
}
