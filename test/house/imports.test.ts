import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sweepbook-lint-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the linter says of these files, with the project's own settings. */
function lint(files: Record<string, string>): string {
  const copy = mkdtempSync(join(folder, 'case-'));
  cpSync(join(root, '.oxlintrc.json'), join(copy, '.oxlintrc.json'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(copy, name)), { recursive: true });
    writeFileSync(join(copy, name), text);
  }
  try {
    execFileSync(process.execPath, [join(root, 'node_modules/oxlint/bin/oxlint'), '-f', 'unix'], {
      cwd: copy,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return '';
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

const exporting = (name: string) => `export const ${name} = 1;\n`;
const importing = (name: string, from: string) =>
  `import { ${name} } from '${from}';\n\nexport const used = ${name};\n`;

test.each([
  ['runs', 'files'],
  ['files', 'backups'],
  ['backups', 'datasets'],
  ['datasets', 'containers'],
  ['datasets', 'sweeps'],
  ['containers', 'sweeps'],
  ['sweeps', 'containers'],
  ['worker', 'containers'],
  ['sweeps', 'production'],
  ['sweeps', 'incidents'],
  ['incidents', 'worker'],
  ['sweeps', 'worker'],
  ['sweeps', 'server'],
  ['production', 'worker'],
  ['production', 'server'],
  ['worker', 'production'],
  ['sweeps', 'suspicions'],
  ['incidents', 'imports'],
  ['imports', 'suspicions'],
  ['imports', 'server'],
  ['datasets', 'notices'],
  ['suspicions', 'notices'],
  ['worker', 'notices'],
  ['notices', 'server'],
  ['storage', 'access'],
  ['storage', 'database'],
  ['database', 'events'],
  ['access', 'api'],
  ['api', 'runs'],
  ['worker', 'server'],
  ['cli', 'database'],
  ['server', 'cli'],
  ['cli', 'server'],
  ['formats', 'database'],
])('the check finds %s that knows %s', (left, right) => {
  const said = lint({
    [`src/${left}/one.ts`]: importing('two', `../${right}/two.ts`),
    [`src/${right}/two.ts`]: exporting('two'),
  });
  expect(said).toContain(`src/${left}/one.ts`);
  expect(said).toContain('no-restricted-imports');
});

test.each([
  ['files', 'runs'],
  ['sweeps', 'datasets'],
  ['containers', 'datasets'],
  ['server', 'containers'],
  ['server', 'sweeps'],
  ['production', 'sweeps'],
  ['server', 'production'],
  ['incidents', 'sweeps'],
  ['worker', 'incidents'],
  ['server', 'notices'],
  ['worker', 'suspicions'],
  ['worker', 'storage'],
  ['cli', 'formats'],
])('the check lets %s know %s', (left, right) => {
  const said = lint({
    [`src/${left}/one.ts`]: importing('two', `../${right}/two.ts`),
    [`src/${right}/two.ts`]: exporting('two'),
  });
  expect(said).toBe('');
});

test('the check finds a circle, also one of types', () => {
  const said = lint({
    'src/runs/one.ts': `import type { Two } from './two.ts';\n\nexport type One = Two[];\n`,
    'src/runs/two.ts': `import type { One } from './one.ts';\n\nexport type Two = One[];\n`,
  });
  expect(said).toContain('no-cycle');
});
