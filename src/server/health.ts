import type { FastifyInstance } from 'fastify';
import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Means } from '../api/context.ts';
import { firstRow, sql } from '../database/sql.ts';
import { messageOf } from '../errors.ts';

const answerWithinMs = 3000;

interface Check {
  readonly name: string;
  readonly isOk: boolean;
  readonly detail: string;
}

/** /healthz: the process answers. /readyz: database and default mass store can be used; 503 says what cannot. */
export function serveHealth(app: FastifyInstance, means: Means): void {
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    const checks = await Promise.all([
      checkDatabase(means),
      checkStore(means),
      tellDistrusted(means),
      tellLeft(means),
    ]);
    const isOk = checks.every((check) => check.isOk);
    return reply.code(isOk ? 200 : 503).send({ status: isOk ? 'ready' : 'not ready', checks });
  });
}

async function within(name: string, work: Promise<string>): Promise<Check> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no answer within ${answerWithinMs} ms`)),
      answerWithinMs,
    );
  });
  try {
    return { name, isOk: true, detail: await Promise.race([work, late]) };
  } catch (error) {
    return { name, isOk: false, detail: messageOf(error) };
  } finally {
    clearTimeout(timer);
  }
}

async function checkDatabase({ db }: Means): Promise<Check> {
  return within(
    'database',
    firstRow(
      db.fork(),
      sql<{ version: string }>`select current_setting('server_version') as version`,
    ).then((row) => `PostgreSQL ${row?.version}`),
  );
}

async function checkStore({ db, stores }: Means): Promise<Check> {
  return within(
    'default mass store',
    listMassStores(db).then(async (rows) => {
      const row = rows.find((store) => store.isDefault);
      if (!row) throw new Error('none is configured');
      const { isUp, detail } = await stores.of(row).probe();
      if (!isUp) throw new Error(detail);
      return `${row.name} is up`;
    }),
  );
}

/** Stores that failed their self-test: backups go on, with every byte read back. */
async function tellDistrusted({ db }: Means): Promise<Check> {
  return within(
    'self-tests of mass stores',
    listMassStores(db).then((rows) => {
      const failed = rows.filter((row) => !row.isTrusted).map((row) => row.name);
      return failed.length === 0
        ? 'none failed'
        : `failed: ${failed.join(', ')}; not taken at their word, what they hold is read back`;
    }),
  );
}

/** Stores that left the store file and are kept for what they hold: nothing comes into them or out of them. */
async function tellLeft({ db }: Means): Promise<Check> {
  return within(
    'store file',
    listMassStores(db).then((rows) => {
      const left = rows.filter((row) => !row.isConfigured).map((row) => row.name);
      return left.length === 0
        ? 'has every store'
        : `does not have ${left.join(', ')}: put them back, or "store list" says what depends on them`;
    }),
  );
}
