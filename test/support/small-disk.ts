import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

/** Mounts a file system of 6 MB; false, and a loud word, where this account cannot. */
export function mountSmallDisk(folder: string): boolean {
  mkdirSync(folder, { recursive: true });
  try {
    const options = ['-t', 'tmpfs', '-o', 'size=6m,mode=0777', 'none', folder];
    execFileSync('mount', options, { stdio: 'ignore' });
    return true;
  } catch {
    console.warn('NOT TRIED: a full disk; this account cannot mount a small one');
    return false;
  }
}

export function unmount(folder: string): void {
  execFileSync('umount', [folder]);
}
