import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Mounts a file system of 6 MB. */
export function mountSmallDisk(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const options = ['-t', 'tmpfs', '-o', 'size=6m,mode=0777', 'none', folder];
  execFileSync('mount', options, { stdio: 'ignore' });
}

export function unmount(folder: string): void {
  execFileSync('umount', [folder]);
}

/** Whether this account can mount one; a loud word where it cannot. */
export function canMountSmallDisk(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-small-'));
  try {
    mountSmallDisk(folder);
    unmount(folder);
    return true;
  } catch {
    console.warn('NOT TRIED: a full disk; this account cannot mount a small one');
    return false;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
