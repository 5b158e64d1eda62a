import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { programOf } from './contestants.ts';

export interface CopyResult {
  readonly ms: number;
  readonly firstByteMs?: number;
  readonly bytes?: number;
}

type CopyRequest =
  | { readonly tables: readonly { readonly statement: string; readonly text: string }[] }
  | { readonly statement: string };

/** COPY in a process of its own, as fast as the driver can. */
export interface CopyProcess {
  run(request: CopyRequest): Promise<CopyResult>;
  close(): Promise<void>;
}

export async function startCopy(databaseUrl: string): Promise<CopyProcess> {
  const child = spawn(process.execPath, [programOf('copy')], {
    env: { ...process.env, DATABASE_URL: databaseUrl },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  await next();
  return {
    async run(request) {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return JSON.parse(await next()) as CopyResult;
    },
    async close() {
      child.stdin.end();
      await once(child, 'close');
    },
  };
}
