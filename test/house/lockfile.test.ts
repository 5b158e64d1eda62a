import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

interface Locked {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
}
const { packages } = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8')) as {
  packages: Record<string, Locked>;
};
const locked = Object.entries(packages).filter(([name]) => name !== '');

test('what is installed is held by its SHA-512, and comes from a registry', () => {
  const installed = locked.filter(([name]) => existsSync(`${root}${name}/package.json`));
  expect(installed.length).toBeGreaterThan(100);
  for (const [name, { integrity, resolved, link }] of installed) {
    expect(link, name).toBeUndefined();
    expect(integrity, name).toMatch(/^sha512-/);
    expect(resolved ?? 'https://', name).toMatch(/^https:\/\//);
  }
});

test('what is asked for is pinned', () => {
  const asked = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as Record<
    'dependencies' | 'devDependencies' | 'optionalDependencies',
    Record<string, string>
  >;
  const all = { ...asked.dependencies, ...asked.devDependencies, ...asked.optionalDependencies };
  const loose = Object.entries(all).filter(
    ([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version),
  );
  expect(loose).toEqual([]);
});
