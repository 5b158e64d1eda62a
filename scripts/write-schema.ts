import { writeFileSync } from 'node:fs';
import { manifestSchema } from '../src/imports/manifest.ts';
import { schemaText } from '../src/server/schema-text.ts';

writeFileSync(new URL('../schema.graphql', import.meta.url), schemaText());
writeFileSync(new URL('../docs/manifest.schema.json', import.meta.url), manifestSchema());
