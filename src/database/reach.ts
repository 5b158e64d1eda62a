import { certificateTrouble } from '../certificates.ts';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { postgresCode } from './transaction.ts';

/** What to do about it, by the code of the system, of TLS or of PostgreSQL. */
const waysOut: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: start PostgreSQL, or correct DATABASE_URL',
  ENOTFOUND: 'there is no such host: correct DATABASE_URL',
  EAI_AGAIN: 'names cannot be looked up right now: try again, or give an address in DATABASE_URL',
  ETIMEDOUT: 'nothing answers: look for a firewall, or correct the host in DATABASE_URL',
  ENOENT: 'correct the paths of certificates in DATABASE_URL',
  '28P01': 'correct the password in DATABASE_URL',
  '28000':
    'correct the user in DATABASE_URL, or let it in by pg_hba.conf, which may ask for TLS (sslmode=verify-full)',
  '3D000': 'create that database, or correct DATABASE_URL',
  '42501': 'the user must own the database, or be granted CREATE on it and on its schema public',
  '53300': 'raise max_connections of PostgreSQL, or end what else is connected',
  '57P03': 'it starts or goes down: try again in a moment',
};

const naming = 'sslrootcert=/path/to/ca.pem in DATABASE_URL';

/** Does what needs the database for the first time. UNAVAILABLE says which one cannot be used, why, and what to do. */
export async function reaching<T>(url: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = postgresCode(error) ?? codeOf(error);
    if (code === undefined) throw error;
    const wayOut = waysOut[code] ?? certificateTrouble(code, naming);
    if (wayOut === undefined) throw error;
    const { host, pathname } = new URL(url);
    const database = `${host}${pathname}`;
    throw new SweepbookError(
      'UNAVAILABLE',
      `the database ${database} cannot be used (${messageOf(error)}): ${wayOut}`,
      { database, code },
      { cause: error },
    );
  }
}

/** The ORM wraps what the driver throws. */
function codeOf(error: unknown): string | undefined {
  const code = systemCode(error);
  if (code !== undefined || !(error instanceof Error)) return code;
  return error.cause === undefined ? undefined : codeOf(error.cause);
}
