import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';
import { accessText } from '../../scripts/access-text.ts';
import { limitsText } from '../../scripts/limits-text.ts';
import { closeCodes } from '../../src/server/websocket-connection.ts';

const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');

test('every refusal code is documented, and no other', () => {
  const documented = [...text.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((row) => String(row[1]));
  expect(documented.toSorted()).toEqual([...errorCodes].toSorted());
});

test('every close code of WebSockets is documented', () => {
  for (const code of Object.values(closeCodes)) expect(text).toContain(`| ${code} |`);
});

test('docs/access.md is what the policy says', () => {
  const written = readFileSync(new URL('../../docs/access.md', import.meta.url), 'utf8');
  expect(written, 'run "npm run access" and commit docs/access.md').toBe(accessText());
});

test('docs/limits.md is what the server enforces', () => {
  const written = readFileSync(new URL('../../docs/limits.md', import.meta.url), 'utf8');
  expect(written, 'run "npm run limits" and commit docs/limits.md').toBe(limitsText());
});
