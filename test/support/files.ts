import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createAdler32 } from 'hash-wasm';
import type { TestClient } from './client.ts';

export interface MadeFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
}

/** What a file of these bytes has to be registered with. */
export async function describeFile(path: string): Promise<MadeFile> {
  const bytes = readFileSync(path);
  const adler32 = await createAdler32();
  return {
    path,
    sizeBytes: bytes.length,
    adler32: adler32.init().update(bytes).digest('hex'),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

/** Writes a file: these bytes, and zeros up to the size if one is given (quick, however large). */
export async function makeFile(path: string, text: string, sizeBytes?: number): Promise<MadeFile> {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  if (sizeBytes !== undefined) truncateSync(path, sizeBytes);
  return describeFile(path);
}

/** Registers merged files; the answers, one for each. */
export async function registerMerged(
  client: TestClient,
  files: readonly (MadeFile & { readonly lfn: string })[],
): Promise<{ outcome: string; error: { code: string; message: string } | null }[]> {
  const data = await client.call<{
    registerFiles: {
      results: { outcome: string; error: { code: string; message: string } | null }[];
    };
  }>(
    `mutation ($input: RegisterFilesInput!) {
      registerFiles(input: $input) { results { outcome error { code message } } }
    }`,
    { input: { files: files.map((file) => ({ ...file, kind: 'MERGED_FILE' })) } },
  );
  return data.registerFiles.results;
}

/** A dataset of these files, sealed and on its way. */
export async function startSweep(
  client: TestClient,
  name: string,
  lfns: readonly string[],
): Promise<void> {
  await client.call(
    'mutation ($input: CreateDatasetInput!) { createDataset(input: $input) { changed } }',
    { input: { name, kind: 'PR', files: lfns } },
  );
  await client.call(
    'mutation ($input: DatasetTransitionInput!) { sweepDataset(input: $input) { changed } }',
    { input: { dataset: name } },
  );
}

export async function statusOf(client: TestClient, name: string): Promise<string | undefined> {
  const data = await client.call<{ dataset: { status: string } | null }>(
    'query ($name: String!) { dataset(name: $name) { status } }',
    { name },
  );
  return data.dataset?.status;
}
