import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { demand, type Viewer } from '../access/policy.ts';
import { SweepbookError } from '../errors.ts';
import { fetchManifest, sourceAt } from './fetch-manifest.ts';
import {
  receiveManifest,
  type Received,
  type ReceiveOptions,
  type Receiving,
} from './receive.service.ts';

/** Where files come in, below the area; nothing here is ever entered. */
export const incomingFolder = (area: string): string => join(area, '.incoming');

/** Gives a name for a manifest that is on its way in, and removes what was written there. */
export async function withSpool<T>(
  means: Receiving,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const { imports } = means;
  if (!imports) {
    throw new SweepbookError(
      'SOURCE_NOT_ALLOWED',
      'this server imports nothing: an operator names its sources in SWEEPBOOK_IMPORT_FROM',
    );
  }
  const folder = incomingFolder(imports.area);
  await mkdir(folder, { recursive: true });
  const path = join(folder, `manifest-${randomUUID()}`);
  try {
    return await work(path);
  } finally {
    await rm(path, { force: true }).catch(() => undefined);
  }
}

export interface ImportFrom extends ReceiveOptions {
  /** The site, or the address of its server. */
  readonly from: string;
  readonly dataset: string;
}

/** Server to server: asks the other one for the manifest, and takes it. */
export async function importDataset(
  means: Receiving,
  viewer: Viewer,
  { from, dataset, ...options }: ImportFrom,
): Promise<Received> {
  demand(viewer, 'importDatasets');
  const source = sourceAt(means.imports, from);
  return withSpool(means, async (path) => {
    await fetchManifest(source, dataset, path);
    return receiveManifest(means, viewer, path, options);
  });
}
