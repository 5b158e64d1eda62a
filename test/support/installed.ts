import { execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('./install-stores.sh', import.meta.url));

/** Installs what the suite will need while other tests run; who needs it waits for the end of it, and hears of trouble. */
export function installAhead(): void {
  const child = spawn('sh', [script, 'xrootd', 'swift'], { stdio: 'ignore', detached: true });
  child.on('error', () => undefined);
  child.unref();
}

/** Whether a real store is here to test against; installs it where that can be done, and says loudly if not. */
export function isInstalled(store: 'xrootd' | 'swift'): boolean {
  try {
    execFileSync('sh', [script, store], { stdio: ['ignore', 'inherit', 'pipe'] });
    return true;
  } catch (error) {
    const why = (error as { stderr?: Buffer }).stderr?.toString().trim();
    console.warn(`NOT TRIED: the tests against a real ${store}: ${why}`);
    return false;
  }
}
