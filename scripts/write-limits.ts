import { writeFileSync } from 'node:fs';
import { limitsText } from './limits-text.ts';

writeFileSync(new URL('../docs/limits.md', import.meta.url), limitsText());
