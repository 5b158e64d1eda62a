import pg from 'pg';
import { containerChecks } from './invariants-of-containers.ts';
import { contentChecks, type Check } from './invariants-of-contents.ts';
import { eventChecks } from './invariants-of-events.ts';
import { importChecks } from './invariants-of-imports.ts';
import { publicationChecks } from './invariants-of-publications.ts';
import { incidentChecks } from './invariants-of-incidents.ts';
import { poolChecks } from './invariants-of-pools.ts';

/** Findings of one check that are told; the rest is counted. */
const mostTold = 20;

export const allChecks: readonly Check[] = [
  ...contentChecks,
  ...eventChecks,
  ...containerChecks,
  ...incidentChecks,
  ...importChecks,
  ...poolChecks,
  ...publicationChecks,
];

/**
 * The invariants of the domain, asked of the tables alone: no trigger, counter or code of the
 * program is believed. Returns what is broken, in words; nothing = all hold. May be asked while
 * others write: it looks at one moment.
 */
export async function checkInvariants(url: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('begin isolation level repeatable read read only');
    // A stranger's temporary table or setting must not stand before what is asked about.
    await client.query('set local search_path = public, pg_temp');
    // Tables of hashes are made as large as this before anything is known to be there: most of the time went into that.
    await client.query("set local work_mem = '256kB'");
    const broken: string[] = [];
    for (const check of allChecks) broken.push(...(await findings(client, check)));
    return broken;
  } finally {
    await client.end();
  }
}

/** What one check finds, in the transaction of this client. */
export async function findings(
  client: pg.Client,
  { invariant, sql, values }: Check,
): Promise<string[]> {
  const { rows } = await client.query<{ what: string; total: string }>(
    `select what, count(*) over () as total from (${sql}) found (what) limit ${mostTold}`,
    values,
  );
  const more = Number(rows[0]?.total ?? 0) - rows.length;
  return [
    ...rows.map((row) => `${invariant}: ${row.what}`),
    ...(more > 0 ? [`${invariant}: and ${more} more like the last`] : []),
  ];
}
