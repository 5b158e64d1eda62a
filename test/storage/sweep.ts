import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { makeFile, registerMerged, startSweep, statusOf } from '../support/files.ts';
import { runProgram, startProgram } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { startTestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

interface Copy {
  readonly status: string;
  readonly confirmLevel: string | null;
  readonly storedSha256: string | null;
  readonly lastErrorCode: string | null;
  readonly evidence: { readonly asked: string } | null;
  readonly failureCount: number;
}

/**
 * A sweep through the program as its users run it: a server, a worker in a process of its own, and the only store of
 * the store file that matters. Also one file of a name that the store cannot hold, if there is such a name.
 */
export async function sweepInto(store: string, folder: string, refusedName?: string) {
  const storeFile = join(folder, 'stores.yaml');
  const shelf = `  - { name: shelf, kind: directory, root: '${join(folder, 'shelf')}' }\n`;
  writeFileSync(storeFile, `stores:\n${store}${shelf}`);
  const server = await startTestServer({ SWEEPBOOK_STORES: storeFile, SWEEPBOOK_WORKER: 'false' });
  const environment = {
    ...process.env,
    SWEEPBOOK_STORES: storeFile,
    SWEEPBOOK_HOME: join(folder, 'home'),
    SWEEPBOOK_RETRY_BASE_MS: '50',
  } as Record<string, string>;
  const worker = startProgram(['worker'], { ...environment, DATABASE_URL: server.database.url });
  try {
    const lfns = ['/sweep/one & only.root', '/sweep/two.root'];
    const refused = refusedName === undefined ? undefined : `/sweep/${refusedName}`;
    const all = [...lfns, ...(refused === undefined ? [] : [refused])];
    const files = await Promise.all(
      all.map(async (lfn, at) => ({
        ...(await makeFile(join(folder, `swept${at}`), lfn, 6_000_000)),
        lfn,
      })),
    );
    const answers = await registerMerged(server.operator, files);
    expect(answers.map(({ outcome }) => outcome)).toEqual(all.map(() => 'REGISTERED'));
    await startSweep(server.operator, 'swept', lfns);
    if (refused !== undefined) await startSweep(server.operator, 'refused', [refused]);
    await until('closed', async () => (await statusOf(server.operator, 'swept')) === 'CLOSED');
    const copyOf = async (lfn: string) => {
      const { file } = await server.operator.call<{ file: { backups: Copy[] } }>(
        `query ($lfn: String!) { file(lfn: $lfn) { backups {
          status confirmLevel storedSha256 lastErrorCode evidence failureCount } } }`,
        { lfn },
      );
      return file.backups[0] as Copy;
    };
    for (const { lfn, sha256 } of files.slice(0, 2)) {
      expect(await copyOf(lfn)).toMatchObject({
        status: 'CONFIRMED',
        confirmLevel: 'READ_BACK',
        storedSha256: sha256,
      });
    }
    // From one store to another, when no disk has it any more.
    rmSync(join(folder, 'swept1'));
    await mutate(
      server.operator,
      'requestBackup',
      { lfns: ['/sweep/two.root'], store: 'shelf' },
      'results { outcome }',
    );
    await until('the shelf has it', () => existsSync(join(folder, 'shelf', 'sweep', 'two.root')));
    if (refused !== undefined) {
      const failed = await until('it is given up', async () => {
        const copy = await copyOf(refused);
        return copy.status === 'FAILED' ? copy : undefined;
      });
      expect(failed).toMatchObject({ lastErrorCode: 'BAD_USER_INPUT', failureCount: 1 });
      expect(await statusOf(server.operator, 'refused')).toBe('OPEN');
    }
    const token = await server.tokenOf('olga', 'OPERATOR');
    const check = await runProgram(['store', 'check'], {
      ...environment,
      SWEEPBOOK_URL: server.address,
      SWEEPBOOK_TOKEN: token,
    });
    return { check };
  } finally {
    await worker.kill('SIGTERM');
    await server.close();
  }
}
