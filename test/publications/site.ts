import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { randomBytes } from 'node:crypto';
import type { TestClient } from '../support/client.ts';
import { mutate } from '../support/scene.ts';
import { until } from '../support/until.ts';

/** The publish file of a site, written into a folder; its path. Each user has a folder of his own below users. */
export function writePublishFile(folder: string, more: Record<string, unknown> = {}): string {
  const path = join(folder, 'publish.yaml');
  mkdirSync(folder, { recursive: true });
  // JSON is YAML.
  const file = { area: join(folder, 'area'), roots: [join(folder, 'users/{user}')], ...more };
  writeFileSync(path, JSON.stringify(file));
  return path;
}

export type UserFiles = Readonly<Record<string, Buffer>>;

/** Random files of a user, in a folder of his. */
export function writeFiles(folder: string, names: readonly string[], size = 100): UserFiles {
  return Object.fromEntries(
    names.map((name) => {
      const bytes = randomBytes(size);
      const path = join(folder, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
      return [name, bytes];
    }),
  );
}

/** As requestPublication takes them. */
export const listed = (folder: string, files: UserFiles, eventCount?: number) =>
  Object.entries(files).map(([name, bytes]) => ({
    path: join(folder, name),
    name,
    sizeBytes: bytes.length,
    ...(eventCount === undefined ? {} : { eventCount }),
  }));

export interface Publication {
  readonly number: number;
  readonly status: string;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
}
const fields = 'number status lastErrorCode lastError';

export async function request(
  client: TestClient,
  name: string,
  files: readonly object[],
  more: Record<string, unknown> = {},
): Promise<Publication> {
  const done = await mutate<{ publication: Publication }>(
    client,
    'requestPublication',
    { name, description: `all about ${name}`, files, ...more },
    `publication { ${fields} }`,
  );
  return done.publication;
}

export async function look(client: TestClient, number: number): Promise<Publication | null> {
  const data = await client.call<{ publication: Publication | null }>(
    `query ($id: ID!) { publication(id: $id) { ${fields} } }`,
    { id: String(number) },
  );
  return data.publication;
}

/** Waits until it is in one of these states; fails with its error when it is over otherwise. */
export async function reaches(
  client: TestClient,
  number: number,
  ...states: string[]
): Promise<Publication> {
  return until(`publication ${number} is ${states.join(' or ')}`, async () => {
    const now = await look(client, number);
    if (now && states.includes(now.status)) return now;
    if (now && ['PUBLISHED', 'FAILED', 'WITHDRAWN'].includes(now.status)) {
      throw new Error(`publication ${number} is ${now.status}: ${now.lastError}`);
    }
    return undefined;
  });
}
