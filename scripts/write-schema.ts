import { writeFileSync } from 'node:fs';
import { schemaText } from '../src/server/schema-text.ts';

writeFileSync(new URL('../schema.graphql', import.meta.url), schemaText());
