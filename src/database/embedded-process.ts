import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { systemCode } from '../errors.ts';

/** Whether a process with this id runs; one that is dead and only not yet reaped does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
  return statOf(pid)?.[0] !== 'Z';
}

/**
 * When a process was born, as a word that can stand in a file name: with the id
 * it names one process for good, though ids are used again. Undefined: no such process.
 */
export function birthOf(pid: number): string | undefined {
  if (process.platform === 'linux') return statOf(pid)?.[19];
  try {
    const born = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' });
    return born.trim().replace(/[^0-9A-Za-z]+/g, '');
  } catch {
    return undefined;
  }
}

/**
 * Whether the process is a postmaster of this data folder, by its command line:
 * that can be read of other users' processes too, unlike its working directory.
 */
export function isPostmasterOf(pid: number, dataFolder: string): boolean {
  if (!isAlive(pid)) return false;
  try {
    if (process.platform !== 'linux') {
      const line = execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
      return line.includes('postgres') && line.includes(` -D ${dataFolder} `);
    }
    const [program = '', ...given] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return basename(program) === 'postgres' && given.includes(dataFolder);
  } catch {
    return false;
  }
}

/** The fields of /proc/PID/stat after the name, from the state on; undefined elsewhere than on Linux. */
function statOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
