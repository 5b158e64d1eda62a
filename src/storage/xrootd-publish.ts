import { dirname } from 'node:path';
import { SweepbookError } from '../errors.ts';
import type { StoreAnswer } from './contract.ts';
import { duplicate } from './incoming.ts';
import { reservationText, type XrootdServer } from './xrootd-server.ts';
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
  const isReserved = there !== undefined && (await isReservedFor(server, finalKey, there));
  if (there && !isReserved) return adopt(server, ask, temporary, finalKey, here);
  if (!here || !isWholeFile(here)) {
    throw notMoved(server, finalKey, `nothing whole lies at ${server.urlOf(temporary)}`);
  }
  if (!isReserved) await reserve(server, finalKey);
  const answer = await server.ask(['mv', server.pathOf(temporary), server.pathOf(finalKey)]);
  if (answer.code !== 0) throw failureOf(server.tools, answer);
  const moved = (await server.stat(finalKey)).stat;
  if (!moved || !isWholeFile(moved) || moved.sizeBytes !== here.sizeBytes) {
    throw notMoved(server, finalKey, 'the server said that it moved it, and it is not there');
  }
}

async function isReservedFor(
  server: XrootdServer,
  key: string,
  stat: XrootdStat,
): Promise<boolean> {
  return isFile(stat) && server.isReservation(key, stat.sizeBytes);
}

async function reserve(server: XrootdServer, finalKey: string): Promise<void> {
  const { store } = server.tools;
  try {
    if (await server.create(finalKey, reservationText)) return;
  } catch (error) {
    for (let folder = dirname(finalKey); folder !== '.'; folder = dirname(folder)) {
      const { stat } = await server.stat(folder);
      if (stat && isFile(stat)) {
        throw duplicate(store, finalKey, `a file is at ${folder}, where a folder is needed`, error);
      }
    }
    throw error;
  }
  // Somebody was faster by a blink: another attempt of ours at the same file, or a stranger.
  const { stat } = await server.stat(finalKey);
  if (stat && (await isReservedFor(server, finalKey, stat))) return;
  throw duplicate(store, finalKey, 'another file is there');
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
  throw duplicate(server.tools.store, finalKey, 'another file is there');
}

function notMoved(server: XrootdServer, finalKey: string, why: string): SweepbookError {
  return new SweepbookError(
    'STORE_UNAVAILABLE',
    `store ${server.tools.store}: ${finalKey} was not published: ${why}`,
    { store: server.tools.store, key: finalKey },
  );
}
