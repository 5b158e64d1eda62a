import { dirname } from 'node:path/posix';
import { SweepbookError } from '../errors.ts';
import { keyTaken } from './key-taken.ts';
import type { WebDav } from './webdav.ts';

/** What may stand in a URL as it is, is not encoded: XRootD takes the Destination of a MOVE for the name itself. */
const plainly = (part: string) =>
  encodeURIComponent(part).replace(/%(?:2[46BC]|3[ABD]|40)/g, decodeURIComponent);

/** The names that are the same, encoded for a Destination or not. */
export const isPlain = (key: string) => key.split('/').every((part) => plainly(part) === part);

/**
 * Gives a temporary file its final key. Some doors (XRootD) replace what is there although they are asked not to, so
 * there is a look right before. Where this dies, the next attempt goes on: what `isSame` finds to be the same file
 * under both keys has been published.
 */
export async function publishDav(
  dav: WebDav,
  isSame: (temporary: string, finalKey: string) => Promise<boolean>,
  temporary: string,
  finalKey: string,
): Promise<void> {
  const { name } = dav.settings;
  const [here, there] = await Promise.all([dav.stat(temporary, {}), dav.stat(finalKey, {})]);
  if (there) {
    const canBe = here?.isFile && there.isFile && here.sizeBytes === there.sizeBytes;
    if (canBe && (await isSame(temporary, finalKey))) return dav.remove(temporary);
    throw keyTaken(name, finalKey, 'another file is there');
  }
  if (!here?.isFile) throw notMoved(name, finalKey, `no file lies at ${dav.urlOf(temporary)}`);
  try {
    await dav.makeFolders(dirname(finalKey), {});
    await move(dav, temporary, finalKey);
  } catch (error) {
    await demandFolders(dav, finalKey);
    throw error;
  }
  const moved = await dav.stat(finalKey, {});
  if (!moved?.isFile || moved.sizeBytes !== here.sizeBytes) {
    throw notMoved(name, finalKey, 'the door said that it moved it, and it is not there');
  }
}

async function move(dav: WebDav, from: string, to: string): Promise<void> {
  const answer = await dav.ask({
    method: 'MOVE',
    url: dav.urlOf(from),
    headers: { Destination: dav.urlOf(to, plainly), Overwrite: 'F' },
  });
  if (answer.status === 201) return;
  const { name } = dav.settings;
  if (answer.status === 204) {
    throw keyTaken(name, to, 'the store replaced it although it was asked not to');
  }
  if ([404, 405, 409, 412, 423].includes(answer.status) && (await dav.stat(to, {}))) {
    throw keyTaken(name, to, 'another file is there');
  }
  throw dav.refused('MOVE', from, answer);
}

/** A file where a folder is needed is in the way for good. */
async function demandFolders(dav: WebDav, key: string): Promise<void> {
  for (let folder = dirname(key); folder !== '.'; folder = dirname(folder)) {
    const stat = await dav.stat(folder, {});
    if (stat?.isFile) {
      throw keyTaken(dav.settings.name, key, `a file is at ${folder}, where a folder is needed`);
    }
    if (stat) return;
  }
}

function notMoved(store: string, key: string, why: string): SweepbookError {
  return new SweepbookError(
    'STORE_UNAVAILABLE',
    `store ${store}: ${key} was not published: ${why}`,
    { store, key },
  );
}
