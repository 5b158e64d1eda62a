import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SweepbookError, systemCode } from '../errors.ts';
import { birthOf, isAlive } from './embedded-process.ts';

const lockName = /^owner-(\d+)-(\w+)\.lock$/;
/** Two that start at the same instant both step back and try again; an owner stays. */
const tries = 5;

/**
 * Makes this process the owner of the folder; the returned function ends that.
 * Each contender first puts up a file under its own name and then looks for
 * others, so that never two find themselves alone; the file of a dead process
 * bears a name nobody will have again and can be taken away safely.
 * @throws SweepbookError UNAVAILABLE when another living process owns the folder
 */
export async function ownFolder(folder: string): Promise<() => void> {
  const mine = join(folder, `owner-${process.pid}-${birthOf(process.pid) ?? '0'}.lock`);
  for (let attempt = 1; ; attempt += 1) {
    const release = putUp(mine, folder);
    const other = livingOwners(folder).find((pid) => pid !== process.pid);
    if (other === undefined) return release;
    release();
    if (attempt === tries) throw inUse(folder, other);
    await pause(20 + Math.random() * 80);
  }
}

function putUp(mine: string, folder: string): () => void {
  try {
    writeFileSync(mine, `${new Date().toISOString()}\n`, { flag: 'wx' });
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw inUse(folder, process.pid);
    throw error;
  }
  return () => rmSync(mine, { force: true });
}

function livingOwners(folder: string): number[] {
  const owners: number[] = [];
  for (const name of readdirSync(folder)) {
    const [, pid, birth] = lockName.exec(name) ?? [];
    if (pid === undefined) continue;
    if (isAlive(Number(pid)) && (birthOf(Number(pid)) ?? '0') === birth) owners.push(Number(pid));
    else rmSync(join(folder, name), { force: true });
  }
  return owners;
}

function inUse(folder: string, pid: number): SweepbookError {
  return new SweepbookError(
    'UNAVAILABLE',
    `the embedded database in ${folder} is in use by process ${pid}: ` +
      'stop that server first, or give this one another SWEEPBOOK_HOME or a DATABASE_URL',
    { folder, pid },
  );
}
