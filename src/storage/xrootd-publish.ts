import { dirname } from 'node:path';
import { SweepbookError } from '../errors.ts';
import type { StoreAnswer } from './contract.ts';
import { ownerOf } from './incoming.ts';
import { keyTaken } from './key-taken.ts';
import type { XrootdServer } from './xrootd-server.ts';
import { failureOf, isFile, isWholeFile, type XrootdStat } from './xrootd-tools.ts';

/**
 * Gives a temporary file its final key. A server's "mv" replaces what is there without a word, but a copy into a
 * name that is taken is refused by it; so the name is taken by a short file of ours first, and only that one is
 * replaced. Where this dies, the next attempt finds the short file and goes on.
 */
export async function publishXrootd(
  server: XrootdServer,
  ask: (key: string) => Promise<StoreAnswer>,
  temporary: string,
  finalKey: string,
): Promise<void> {
  const [{ stat: here }, { stat: there }] = await Promise.all([
    server.stat(temporary),
    server.stat(finalKey),
  ]);
  const isReserved = there !== undefined && (await isHeld(server, temporary, finalKey, there));
  if (there && !isReserved) return adopt(server, ask, temporary, finalKey, here);
  if (!here || !isWholeFile(here)) {
    throw notMoved(server, finalKey, `nothing whole lies at ${server.urlOf(temporary)}`);
  }
  if (!isReserved) await reserve(server, temporary, finalKey);
  const answer = await server.ask(['mv', server.pathOf(temporary), server.pathOf(finalKey)]);
  if (answer.code !== 0) throw failureOf(server.tools, answer);
  const moved = (await server.stat(finalKey)).stat;
  if (!moved || !isWholeFile(moved) || moved.sizeBytes !== here.sizeBytes) {
    throw notMoved(server, finalKey, 'the server said that it moved it, and it is not there');
  }
}

/**
 * Whether a name is held for us: by this attempt or another one at the same file, or by one that died and left
 * nothing but its reservation.
 */
async function isHeld(
  server: XrootdServer,
  temporary: string,
  finalKey: string,
  there: XrootdStat,
): Promise<boolean> {
  const holder = isFile(there) && (await server.reservedFor(finalKey, there.sizeBytes));
  if (!holder) return false;
  const owner = ownerOf(holder);
  if (!owner || owner.backupId === ownerOf(temporary)?.backupId) return true;
  return (await server.stat(holder)).stat === undefined;
}

async function reserve(server: XrootdServer, temporary: string, finalKey: string): Promise<void> {
  const { store } = server.tools;
  try {
    if (await server.reserve(finalKey, temporary)) return;
  } catch (error) {
    for (let folder = dirname(finalKey); folder !== '.'; folder = dirname(folder)) {
      const { stat } = await server.stat(folder);
      if (stat && isFile(stat)) {
        throw keyTaken(store, finalKey, `a file is at ${folder}, where a folder is needed`, error);
      }
    }
    throw error;
  }
  // Somebody was faster by a blink: another attempt of ours at the same file, or a stranger.
  const { stat } = await server.stat(finalKey);
  if (stat && (await isHeld(server, temporary, finalKey, stat))) return;
  throw keyTaken(store, finalKey, 'another file is there');
}

/** The same bytes under both keys are the same file: an attempt that died, or another way that it came in. */
async function adopt(
  server: XrootdServer,
  ask: (key: string) => Promise<StoreAnswer>,
  temporary: string,
  finalKey: string,
  here: XrootdStat | undefined,
): Promise<void> {
  if (here) {
    const [ours, other] = [await ask(temporary), await ask(finalKey)];
    const isSame =
      ours.sha256 !== undefined &&
      ours.sha256 === other.sha256 &&
      ours.sizeBytes === other.sizeBytes;
    if (isSame) return server.remove(temporary);
  }
  throw keyTaken(server.tools.store, finalKey, 'another file is there');
}

function notMoved(server: XrootdServer, finalKey: string, why: string): SweepbookError {
  return new SweepbookError(
    'STORE_UNAVAILABLE',
    `store ${server.tools.store}: ${finalKey} was not published: ${why}`,
    { store: server.tools.store, key: finalKey },
  );
}
