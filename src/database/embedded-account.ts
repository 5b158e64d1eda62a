import { spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SweepbookError } from '../errors.ts';

/** An account of this host. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Where the embedded database lives and as whom it runs (undefined: as ourselves). */
export interface Place {
  readonly base: string;
  readonly data: string;
  readonly account: Account | undefined;
}

const preferred = ['sweepbook', 'postgres', 'nobody'];

/**
 * The account PostgreSQL runs as; undefined = our own. It refuses to run as root,
 * so root lends it the data folder's owner, or an account without rights.
 * @throws SweepbookError UNAVAILABLE when there is none, or the data is somebody else's
 */
export function accountFor(dataFolder: string): Account | undefined {
  const owner = statSync(dataFolder, { throwIfNoEntry: false });
  const uid = process.getuid?.();
  if (uid !== 0) {
    if (owner !== undefined && uid !== undefined && owner.uid !== uid) {
      throw new SweepbookError(
        'UNAVAILABLE',
        `${dataFolder} belongs to user ${owner.uid}: start as that user or as root, ` +
          'or set another SWEEPBOOK_HOME',
        { folder: dataFolder, owner: owner.uid },
      );
    }
    return undefined;
  }
  if (owner !== undefined && owner.uid !== 0) {
    return { name: `user ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  }
  const accounts = readAccounts();
  const found = preferred.map((name) => accounts.get(name)).find((account) => account);
  if (found !== undefined) return found;
  throw new SweepbookError(
    'UNAVAILABLE',
    `PostgreSQL does not run as root, and there is no account ${preferred.join(', ')} to lend it: ` +
      'run `useradd --system sweepbook`, start as an ordinary user, or set DATABASE_URL',
  );
}

function readAccounts(): Map<string, Account> {
  const accounts = new Map<string, Account>();
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [name = '', , uid, gid] = line.split(':');
    const account = { name, uid: Number(uid), gid: Number(gid) };
    if (account.uid > 0 && account.gid > 0) accounts.set(name, account);
  }
  return accounts;
}

/** What makes a child run as the account; node also takes root's other groups from it. */
export function runAs(account: Account | undefined): { uid?: number; gid?: number } {
  return account === undefined ? {} : { uid: account.uid, gid: account.gid };
}

/** Whether the account can work in a folder of its own inside `folder`: found out by doing it. */
export function canWorkIn(folder: string, account: Account): boolean {
  const trial = mkdtempSync(join(folder, 'trial-'));
  try {
    chownSync(trial, account.uid, account.gid);
    const write = ['-c', 'echo 1 > "$1/written"', 'sh', trial];
    return spawnSync('/bin/sh', write, { ...runAs(account), cwd: '/' }).status === 0;
  } catch {
    return false;
  } finally {
    rmSync(trial, { recursive: true, force: true });
  }
}
