import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { look, reaches, request, writeFiles, writePublishFile, listed } from './site.ts';

let folder: string;
let server: TestServer;
let alice: Awaited<ReturnType<TestServer['as']>>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-publish-'));
  server = await startTestServer({ SWEEPBOOK_PUBLISH: writePublishFile(folder) });
  alice = await server.as('alice', 'USER');
});
afterAll(async () => {
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

const home = (user: string) => join(folder, 'users', user);

interface Replicas {
  dataset: { files: { nodes: { lfn: string; eventCount: number | null; replicas: { path: string }[] }[] } };
}

/** Names that something might take for an option, a pattern, a placeholder, or two names. */
const hostile = ['-rf', '{inputs}', '{output}', '*', 'a b', "q'q", '"', '$(id)', 'x\ny', '@list', 'run#1.root?a=b', 'ü'.repeat(120)];

test('files of any name are published as archives, from which each can be read back', async () => {
  const files = writeFiles(home('alice'), [...hostile, 'deep/-/{inputs}'], 700);
  const made = await request(alice, 'hostile', listed(home('alice'), files, 7), { compositeBytes: 5000 });
  await reaches(alice, made.number, 'PUBLISHED');
  const { dataset } = await alice.call<Replicas>(
    '{ dataset(name: "hostile") { files { nodes { lfn eventCount replicas { path } } } } }',
  );
  const archives = dataset.files.nodes.map((file) => file.replicas[0]?.path ?? '');
  expect(archives).toHaveLength(2);
  expect(dataset.files.nodes.reduce((sum, file) => sum + (file.eventCount ?? 0), 0)).toBe(7 * 13);
  const found = new Set<string>();
  for (const [at, archive] of archives.entries()) {
    const listing = await runProgram(['publish', 'members', archive, '--json']);
    for (const line of listing.stdout.trimEnd().split('\n')) {
      const { name, offset } = JSON.parse(line) as { name: string; offset: number };
      found.add(name);
      const bytes = readFileSync(archive).subarray(offset, offset + 700);
      expect(bytes.equals(files[name] ?? Buffer.alloc(0)), name).toBe(true);
    }
    const [name] = [['*', 'deep/-/{inputs}'], ['x\ny']][at] ?? [];
    void name;
    // What everybody has can read it, too.
    expect(() => execFileSync('tar', ['-tf', archive])).not.toThrow();
  }
  expect([...found].toSorted()).toEqual(Object.keys(files).toSorted());
});
