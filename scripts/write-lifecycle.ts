import { writeFileSync } from 'node:fs';
import { lifecycleText } from './lifecycle-text.ts';

writeFileSync(new URL('../docs/lifecycle.md', import.meta.url), lifecycleText());
