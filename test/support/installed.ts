import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Whether a real store is here to test against; installs it where that can be done, and says loudly if not. */
export function isInstalled(store: 'xrootd' | 'swift'): boolean {
  const script = fileURLToPath(new URL('./install-stores.sh', import.meta.url));
  try {
    execFileSync('sh', [script, store], { stdio: ['ignore', 'inherit', 'pipe'] });
    return true;
  } catch (error) {
    const why = (error as { stderr?: Buffer }).stderr?.toString().trim();
    console.warn(`NOT TRIED: the tests against a real ${store}: ${why}`);
    return false;
  }
}
