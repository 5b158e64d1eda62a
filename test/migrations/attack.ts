import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemCode } from '../../src/errors.ts';
import type { TestDatabase } from '../support/database.ts';
import { openWorld, everything } from './world.ts';

/** What somebody tries, the statements he sends in one transaction. */
export type Attacks = Readonly<Record<string, string>>;

/** Refused by a guard, or by a constraint (unique, check, foreign key, generated column). */
const refusals = ['SW001', '23505', '23514', '23503', '23502', '428C9'];

const roads = {
  'as any client': '',
  'as a replica, whose ordinary triggers sleep': 'set session_replication_role = replica;',
};

/** Each attack must be refused, on both roads, and leave everything as it was. */
export function refuseAll(title: string, attacks: Attacks): void {
  describe.each([title])('%s', () => {
    let database: TestDatabase;
    let before: Record<string, string>;
    beforeAll(async () => {
      database = await openWorld();
      before = await everything(database);
    });
    afterAll(() => database.close());

    describe.each(Object.entries(roads))('%s', (_, setting) => {
      // One connection for all: a new one would compile each guard anew.
      let client: Awaited<ReturnType<TestDatabase['client']>>;
      beforeAll(async () => {
        client = await database.client();
      });
      afterAll(() => client.end());

      test.each(Object.entries(attacks))('nobody %s', async (__, statements) => {
        const outcome = await client
          .query(`${setting} begin; ${statements}; commit`)
          .then(() => 'it was done', systemCode);
        await client.query('rollback; discard temp');
        expect(refusals).toContain(outcome);
      });

      // Who is refused at the end of his transaction has changed nothing: looked at once for all of them.
      test('and all is as it was', async () => {
        expect(await everything(database)).toEqual(before);
      });
    });
  });
}
