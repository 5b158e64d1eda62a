import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { buildSchema, type GraphQLSchema } from 'graphql';
import { adler32 } from 'hash-wasm';
import { Refused, type TestClient } from './client.ts';
import type { TestDatabase } from './database.ts';
import type { TestServer } from './server.ts';
import { until } from './until.ts';

/** The committed schema: what clients are built on. */
export const committedSchema: GraphQLSchema = buildSchema(
  readFileSync(new URL('../../schema.graphql', import.meta.url), 'utf8'),
);

/** Calls a mutation with its input; the type of the input is looked up. */
export async function mutate<Answer = { changed: boolean }>(
  client: TestClient,
  field: string,
  input: object,
  selection = 'changed',
): Promise<Answer> {
  const type = committedSchema.getMutationType()?.getFields()[field]?.args[0]?.type;
  const data = await client.call<Record<string, Answer>>(
    `mutation ($input: ${type}) { ${field}(input: $input) { ${selection} } }`,
    { input },
  );
  return data[field] as Answer;
}

/** The refusal of a call; fails when it was not refused. */
export async function refusalOf(work: Promise<unknown>): Promise<Refused> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Refused) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

export interface TestFile {
  readonly lfn: string;
  readonly bytes: Buffer;
  /** As registerFiles takes it. */
  readonly description: Record<string, unknown>;
}

/** A file that nobody has registered yet, with random bytes; a MERGED_FILE if nothing else is said. */
export async function newFile(lfn: string, more: Record<string, unknown> = {}): Promise<TestFile> {
  const bytes = randomBytes(64);
  const description = {
    lfn,
    kind: 'MERGED_FILE',
    sizeBytes: bytes.length,
    adler32: await adler32(bytes),
    sha256: createHash('sha256').update(bytes).digest('hex'),
    eventCount: 10,
    ...more,
  };
  return { lfn, bytes, description };
}

export async function register(client: TestClient, ...files: TestFile[]): Promise<void> {
  const answer = await mutate<{ registeredCount: number; results: object[] }>(
    client,
    'registerFiles',
    { files: files.map((file) => file.description) },
    'registeredCount results { lfn error { code message } }',
  );
  if (answer.registeredCount !== files.length) {
    throw new Error(`not registered: ${JSON.stringify(answer.results)}`);
  }
}

/** Copies a file where the server says and reports it: CONFIRMED, without a worker. */
export async function backUp(client: TestClient, ...files: TestFile[]): Promise<void> {
  for (const file of files) {
    const { results } = await mutate<{ results: { upload: { path: string } }[] }>(
      client,
      'requestBackup',
      { lfns: [file.lfn], direct: true },
      'results { upload { path } }',
    );
    const path = results[0]?.upload.path ?? '';
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.bytes);
    await mutate(client, 'recordBackup', { lfn: file.lfn, path });
  }
}

export type Stage = 'OPEN' | 'BACKED_UP' | 'CLOSED' | 'BAD';

/** A dataset of new files, brought as far as is said; its files are backed up beyond OPEN. */
export async function makeDataset(
  client: TestClient,
  name: string,
  stage: Stage,
  {
    fileCount = 1,
    files,
    ...more
  }: Partial<{ fileCount: number; files: TestFile[] }> & Record<string, unknown> = {},
): Promise<TestFile[]> {
  const made =
    files ??
    (await Promise.all(
      Array.from({ length: fileCount }, (_, at) =>
        newFile(`/scene/${name}/file${String(at).padStart(3, '0')}.root`),
      ),
    ));
  if (!files) await register(client, ...made);
  const dataset = { kind: 'PR', ...more, name, files: made.map((file) => file.lfn) };
  await mutate(client, 'createDataset', dataset);
  if (stage === 'OPEN') return made;
  await backUp(client, ...made);
  await mutate(client, 'markDatasetBackedUp', { dataset: name });
  if (stage === 'BACKED_UP') return made;
  await mutate(client, 'closeDataset', { dataset: name });
  if (stage === 'BAD') {
    await mutate(client, 'markDatasetBad', { dataset: name, reason: 'the tape was wet' });
  }
  return made;
}

/** The cursor of the last line that is in the log by now. */
export async function lastCursor({ operator, database }: TestServer): Promise<string | undefined> {
  await allTold(database);
  interface Page {
    events: { pageInfo: { endCursor: string | null; hasNextPage: boolean } };
  }
  for (let after: string | null = null; ;) {
    const { events }: Page = await operator.call<Page>(
      'query ($after: String) { events(first: 200, after: $after) { pageInfo { endCursor hasNextPage } } }',
      { after },
    );
    if (!events.pageInfo.hasNextPage) return events.pageInfo.endCursor ?? after ?? undefined;
    after = events.pageInfo.endCursor;
  }
}

/**
 * Waits until readers see every line of the log that is written now: they stay below the oldest open
 * transaction, and other tests have theirs on the same PostgreSQL.
 */
export async function allTold(database: TestDatabase): Promise<void> {
  await until('the log is complete', async () => {
    const [row] = await database.sql<{ told: boolean }>(
      'select coalesce(max(xid), 0::text::xid8) < pg_snapshot_xmin(pg_current_snapshot()) as told from events',
    );
    return row?.told;
  });
}
