import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mutate, newFile, register, backUp, type TestFile } from '../support/scene.ts';
import type { TestClient } from '../support/client.ts';
import type { TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

export interface Placed extends TestFile {
  readonly path: string;
}

/** A merged file with its copy on a volume, on disk for real. */
export async function placedFile(
  server: TestServer,
  volume: string,
  name: string,
  more: Record<string, unknown> = {},
): Promise<Placed> {
  const path = join(server.folder, volume, name);
  const file = await newFile(`/incident/${name}`, { path, volume, ...more });
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, file.bytes);
  await register(server.operator, file);
  return { ...file, path };
}

/** A published dataset without backup: what disk crashes are about. */
export async function waivedDataset(
  client: TestClient,
  name: string,
  files: readonly TestFile[],
  more: Record<string, unknown> = {},
): Promise<void> {
  await mutate(client, 'createDataset', {
    name,
    kind: 'USER',
    backupWaived: true,
    waiverReason: 'made again at will',
    files: files.map((file) => file.lfn),
    ...more,
  });
  await mutate(client, 'closeDataset', { dataset: name });
}

/** A published dataset whose files have a confirmed backup each, as some more have. */
export async function safeDataset(
  client: TestClient,
  name: string,
  files: TestFile[],
  more: TestFile[] = [],
): Promise<void> {
  await mutate(client, 'createDataset', { name, kind: 'PR', files: files.map((file) => file.lfn) });
  await backUp(client, ...files, ...more);
  await mutate(client, 'markDatasetBackedUp', { dataset: name });
  await mutate(client, 'closeDataset', { dataset: name });
}

export interface Report {
  incident: { number: number; status: string } | null;
  changed: boolean;
  itemCount: number;
  safeCount: number;
  recoverableCount: number;
  lostCount: number;
  alreadyLostCount: number;
  unknownCount: number;
  unknown: string[];
  lostFileCount: number;
  lostRuns: { source: string; numbers: string }[];
  datasetCount: number;
  markedDatasetCount: number;
  derivedCount: number;
  items: { finding: string; lfn: string; place: string; path: string }[];
  datasets: {
    name: string;
    owner: string;
    hitCount: number;
    lostCount: number;
    unbackedCount: number;
    isMarked: boolean;
  }[];
  owners: { owner: string; datasetCount: number; markedCount: number; lostCount: number }[];
  containers: { name: string; datasetCount: number; markedCount: number }[];
  derived: {
    lfn: string;
    generation: number;
    lostInputCount: number;
    inputCount: number;
    datasets: string[];
  }[];
}

export const tableFields = `itemCount safeCount recoverableCount lostCount fileCount lostFileCount lostBytes
  runCount lostRunCount lostRuns { source numbers } datasetCount markedDatasetCount containerCount ownerCount
  derivedCount derivedDatasetCount
  items { finding lfn sizeBytes place path }
  datasets { name owner status backupWaived fileCount hitCount lostCount unbackedCount isMarked }
  containers { name owner datasetCount markedCount lostCount }
  owners { owner datasetCount markedCount lostCount }
  derived { lfn generation lostInputCount inputCount isLost datasets }
  derivedDatasets { name owner fileCount derivedCount isMarked }`;

export const reportFields = `incident { number status } changed alreadyLostCount unknownCount unknown ${tableFields}`;

/** Reports a loss, or looks what it would hit. */
export async function report(
  client: TestClient,
  scope: Record<string, unknown>,
  dryRun = false,
): Promise<Report> {
  const input = { reason: 'the disk server is down', dryRun, ...scope };
  return mutate<Report>(client, 'reportStorageLoss', input, reportFields);
}

export interface Incident {
  number: number;
  status: string;
  openCount: number;
  stillLostCount: number;
  restoredCount: number;
  hiddenDatasetCount: number;
  closingReason: string | null;
  items: {
    nodes: { lfn: string; status: string; isLost: boolean; lastError: string | null }[];
  };
}

export async function incident(client: TestClient, number: number): Promise<Incident> {
  const data = await client.call<{ incident: Incident }>(
    `query ($id: ID!) { incident(id: $id) { number status openCount stillLostCount restoredCount hiddenDatasetCount
      closingReason items(first: 100) { nodes { lfn status isLost lastError } } } }`,
    { id: String(number) },
  );
  return data.incident;
}

export async function untilStatus(
  client: TestClient,
  number: number,
  ...statuses: string[]
): Promise<Incident> {
  return until(`incident ${number} is ${statuses.join(' or ')}`, async () => {
    const found = await incident(client, number);
    return statuses.includes(found.status) && found;
  });
}

/** Whether everybody sees the dataset. */
export async function isSeen({ anonymous }: TestServer, name: string): Promise<boolean> {
  const { data } = await anonymous.raw('query ($name: String!) { dataset(name: $name) { name } }', {
    name,
  });
  return (data as { dataset: object | null } | null)?.dataset != null;
}
