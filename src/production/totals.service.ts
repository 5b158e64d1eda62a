import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';

/** So many changes are read with each question before it is worth to fold them. */
const fewChanges = 200;

/** Folds what has changed into the totals, if it is much; they are exact without it, and slower. */
export async function foldTotals(db: Db): Promise<boolean> {
  const due = await firstRow(
    db.fork(),
    sql<{ isDue: boolean }>`
    select exists (select from publication_changes)
      or exists (select from file_total_changes offset ${fewChanges}) as "isDue"`,
  );
  if (!due?.isDue) return false;
  await rows(db.fork(), sql`update totals_state set folded_at = clock_timestamp()`);
  return true;
}

const foldEveryMs = 2000;
/** A fold takes some hundred thousand files at the most; after a large incident several follow each other. */
const foldsInARow = 20;

async function foldAll(db: Db): Promise<void> {
  for (let fold = 0; fold < foldsInARow; fold++) if (!(await foldTotals(db))) return;
}

/** Folds every few seconds, for as long as the server runs. */
export function keepFolding(
  db: Db,
  onTrouble: (error: unknown) => void,
): { close(): Promise<void> } {
  let working: Promise<void> = Promise.resolve();
  let isWorking = false;
  const timer = setInterval(() => {
    if (isWorking) return;
    isWorking = true;
    working = foldAll(db)
      .catch(onTrouble)
      .finally(() => (isWorking = false));
  }, foldEveryMs);
  return {
    async close() {
      clearInterval(timer);
      await working;
    },
  };
}
