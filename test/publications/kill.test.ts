import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { checkInvariants } from '../support/check-invariants.ts';
import { clientOf, type TestClient } from '../support/client.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startServe, type ServeProcess } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { until } from '../support/until.ts';
import { look, reaches, request, writePublishFile } from './site.ts';

const patienceMs = 90_000;
const events = 5;

let folder: string;
let database: TestDatabase;
let site: ServeProcess | undefined;
let environment: Record<string, string>;
let token: string | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-publish-kill-'));
  database = await openTestDatabase();
  // The tool of the site: merges lines, which are its events; loses those that stand twice; waits for a gate.
  const tool = join(folder, 'merge');
  writeFileSync(tool, `while [ ! -e ${folder}/gate ]; do sleep 0.1; done\nexec sort -u "$@"\n`);
  environment = {
    SWEEPBOOK_HOME: join(folder, 'home'),
    DATABASE_URL: database.url,
    SWEEPBOOK_LEASE_SECONDS: '2',
    SWEEPBOOK_RETRY_BASE_MS: '50',
    SWEEPBOOK_PUBLISH: writePublishFile(folder, {
      merge: { argv: ['sh', tool, '-o', '{output}', '{inputs}'], extension: '.txt' },
      countEvents: { argv: ['grep', '-c', '.', '{file}'] },
      approval: true,
    }),
  };
});
afterEach(async () => {
  await site?.kill('SIGKILL');
});
afterAll(async () => {
  writeFileSync(join(folder, 'gate'), '');
  await database?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Files of lines, under names that a tool might take for something else. */
function writeLines(base: string, lines: (name: string, at: number) => string) {
  mkdirSync(base, { recursive: true });
  return ['-rf', '{inputs}', 'a\nb', '* @x#y?z'].map((name) => {
    const text = Array.from({ length: events }, (_, at) => `${lines(name, at)}\n`).join('');
    writeFileSync(join(base, name), text);
    return { path: join(base, name), name, sizeBytes: text.length };
  });
}

async function restart(): Promise<{ operator: TestClient; eve: TestClient }> {
  await site?.kill('SIGKILL');
  expect(await checkInvariants(database.url)).toEqual([]);
  site = await startServe(environment);
  const operator = clientOf(
    site.address,
    readFileSync(join(folder, 'home', 'operator-token'), 'utf8').trim(),
  );
  token ??= (
    await mutate<{ token: string }>(
      operator,
      'createToken',
      { principal: 'eve', roles: ['USER'] },
      'token',
    )
  ).token;
  return { operator, eve: clientOf(site.address, token) };
}

test('approved, merged by the tool of the site, killed amid it and amid backups, it is published once', async () => {
  let { operator, eve } = await restart();
  const base = join(folder, 'users', 'eve');
  const files = writeLines(base, (name, at) => `${name.codePointAt(0)} ${name.length} ${at}`);
  const { number, status } = await request(eve, 'killed', files, { compositeBytes: 2000 });
  expect(status).toBe('AWAITING_APPROVAL');
  const publication = String(number);
  await mutate(operator, 'decidePublication', { publication, approve: true });
  const folderOf = (attempt: number) => join(folder, 'area', `p${number}`, `a${attempt}`);
  await until(
    'the tool runs',
    () => {
      try {
        return readdirSync(folderOf(1)).some((name) => name.startsWith('.in-'));
      } catch {
        return false;
      }
    },
    patienceMs,
  );
  ({ operator, eve } = await restart());
  writeFileSync(join(folder, 'gate'), '');
  await until(
    'it is at the backups',
    async () => ['BACKING_UP', 'PUBLISHED'].includes((await look(eve, number))?.status ?? ''),
    patienceMs,
  );
  ({ operator, eve } = await restart());
  await reaches(eve, number, 'PUBLISHED');
  const { dataset } = await operator.call<{
    dataset: { owner: string; eventCount: number; files: { nodes: { backups: object[] }[] } };
  }>('{ dataset(name: "killed") { owner eventCount files { nodes { backups { status } } } } }');
  expect(dataset).toEqual({
    owner: 'eve',
    eventCount: 4 * events,
    files: { nodes: [{ backups: [{ status: 'CONFIRMED' }] }] },
  });

  // The tool loses what stands twice: that is found out, and nothing of it stays.
  const twins = writeLines(join(base, 'twins'), (_, at) => `the same ${at}`).slice(0, 1);
  const other = writeLines(join(base, 'other'), (_, at) => `the same ${at + 1}`).slice(1, 2);
  const lossy = await request(eve, 'lossy', [...twins, ...other]);
  await mutate(operator, 'decidePublication', { publication: String(lossy.number), approve: true });
  const lost = await reaches(eve, lossy.number, 'FAILED');
  expect(lost.lastError).toMatch(/has 6 events, the 2 files that went in have 10/);
  await until(
    'nothing is left',
    () => !readdirSync(join(folder, 'area')).includes(`p${lossy.number}`),
  );

  // An operator says no, and why; what nobody wants is withdrawn.
  const no = await request(eve, 'no', twins);
  const decision = { publication: String(no.number), approve: false, reason: 'the wrong release' };
  await mutate(operator, 'decidePublication', decision);
  expect((await look(eve, no.number))?.lastError).toMatch(
    /did not approve of it: the wrong release/,
  );
  expect(await checkInvariants(database.url)).toEqual([]);
});
