import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { defaultLimits } from '../../src/limits.ts';
import { Gate, payerOf, Ticket } from '../../src/server/gate.ts';
import { Lanes } from '../../src/server/lanes.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { clientOf, type TestClient } from '../support/client.ts';
import { startServe, type ServeProcess } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { until } from '../support/until.ts';

const anna = payerOf({ principal: 'anna', roles: ['USER'] }, undefined);

describe('alone', () => {
  test('so much of one is under way at once, the rest in order; others do not wait for it', async () => {
    const lanes = new Lanes(6);
    const begun: string[] = [];
    const enter = async (key: string, name: string, weight?: number) => {
      const leave = await lanes.enter(key, weight);
      begun.push(name);
      return leave;
    };
    const small = await enter('anna', 'small');
    const half = await enter('anna', 'half', 3);
    const more = enter('anna', 'more', 3);
    // It would fit, and waits behind what came before.
    const late = enter('anna', 'late');
    const huge = enter('anna', 'huge', 61);
    await enter('ben', 'of ben', 6);
    expect(begun).toEqual(['small', 'half', 'of ben']);
    half();
    half();
    (await more)();
    const leaveLate = await late;
    expect(begun.slice(3)).toEqual(['more', 'late']);
    small();
    leaveLate();
    (await huge)();
    expect(begun.slice(5)).toEqual(['huge']);
    await enter('anna', 'again', 6);
  });

  test('what nobody waits for any more is not begun, and keeps nobody waiting', async () => {
    const gate = new Gate({ ...defaultLimits, pointsAtOnce: 1 });
    const first = new Ticket(gate, anna);
    const gone = new Ticket(gate, anna);
    const last = new Ticket(gate, anna);
    for (const ticket of [first, gone, last]) ticket.pay(0);
    gone.isGone = () => true;
    const leave = await first.begin();
    const ends = Promise.allSettled([gone.begin(), last.begin()]);
    leave();
    expect(await ends).toMatchObject([
      { status: 'rejected', reason: { code: 'UNAVAILABLE' } },
      { status: 'fulfilled' },
    ]);
  });
});

describe('of a server', () => {
  /** As large as an answer may be. */
  const large = `{ runs(first: 200, filter: { productionStatus: IN_PRODUCTION }) { nodes { ${Array.from({ length: 190 }, (_, at) => `a${at}: number`).join(' ')} } } }`;
  const count = 10;

  let home: string;
  let database: TestDatabase;
  /** A process of its own: here, what answers would keep what asks waiting. */
  let server: ServeProcess;
  let greedy: TestClient;
  let other: TestClient;
  let token: string;
  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'sweepbook-lanes-'));
    database = await openTestDatabase();
    server = await startServe({
      DATABASE_URL: database.url,
      SWEEPBOOK_HOME: home,
      SWEEPBOOK_WORKER: 'false',
    });
    token = readFileSync(join(home, 'operator-token'), 'utf8').trim();
    greedy = clientOf(server.address, token);
    other = clientOf(server.address);
    const runs = Array.from({ length: 200 }, (_, at) => ({ number: at + 1, source: 'DATA' }));
    await mutate(greedy, 'registerRuns', { runs }, 'registeredCount');
  });
  afterAll(async () => {
    await server.kill('SIGTERM');
    await database.close();
    rmSync(home, { recursive: true, force: true });
  });

  /** How many of the large questions are asked of a database that does not answer; others are answered meanwhile. */
  async function askedAtOnce(ask: () => Promise<unknown>): Promise<number> {
    const holder = await database.client();
    await holder.query('begin');
    await holder.query('lock table runs');
    const waiting = async () => {
      const [seen] = await database.sql<{ count: number }>(
        `select count(*)::int from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return seen?.count ?? 0;
    };
    const answers = Promise.all(Array.from({ length: count }, ask));
    await until('the first one waits', async () => (await waiting()) > 0);
    for (let at = 0; at < 20; at++) await other.call('{ viewer { name } }');
    const most = await waiting();
    await holder.query('commit');
    await answers;
    return most;
  }

  test.each<[string, () => Promise<() => Promise<unknown>>]>([
    ['by the fast road', async () => () => greedy.call(large)],
    [
      'by the plain road',
      async () => async () => {
        const response = await fetch(`${server.address}/graphql`, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${token}`,
            'content-type': 'application/json',
            accept: 'application/json;q=0.9',
          },
          body: JSON.stringify({ query: large }),
        });
        expect(await response.json()).toHaveProperty('data.runs.nodes.199');
      },
    ],
    [
      'on a WebSocket',
      async () => {
        const client = createClient({
          url: `${server.address.replace(/^http/, 'ws')}/graphql`,
          webSocketImpl: WebSocket,
          connectionParams: { authorization: `Bearer ${token}` },
        });
        return async () => {
          for await (const answer of client.iterate({ query: large }))
            expect(answer).toHaveProperty('data.runs.nodes.199');
        };
      },
    ],
  ])(
    'who asks for large answers %s, many at once, is given one after the other',
    async (_, open) => {
      // The server itself may ask for runs, too.
      expect(await askedAtOnce(await open())).toBeLessThanOrEqual(2);
    },
  );
});
