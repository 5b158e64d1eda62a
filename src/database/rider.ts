import { AsyncLocalStorage } from 'node:async_hooks';
import type { Db } from './orm.ts';

/** What is to be committed together with the work of a call, by the first of its transactions that commits. */
export interface Rider {
  write(tx: Db): Promise<void>;
  /** It is in the database. */
  isWritten: boolean;
  /** The call has ended: what it left running writes nothing of it. */
  isOver: boolean;
}

const riders = new AsyncLocalStorage<Rider>();

/** Runs a call whose transactions take the rider along. */
export async function withRider<T>(rider: Rider, work: () => Promise<T>): Promise<T> {
  try {
    return await riders.run(rider, work);
  } finally {
    rider.isOver = true;
  }
}

/** The rider of this call that still has to be written, if there is one. */
export function waitingRider(): Rider | undefined {
  const rider = riders.getStore();
  return rider && !rider.isWritten && !rider.isOver ? rider : undefined;
}
