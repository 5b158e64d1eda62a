import {
  copyFileSync,
  chmodSync,
  chownSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEmbeddedPostgres, type EmbeddedPostgres } from '../../src/database/embedded.ts';
import { runProgram, startServe } from '../support/program.ts';
import { until } from '../support/until.ts';

const fixture = (name: string) =>
  fileURLToPath(new URL(`../support/tls/${name}.pem`, import.meta.url));
const authority = fixture('authority');

let folder: string;
let postgres: EmbeddedPostgres;
let admin: pg.Client;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-reach-'));
  postgres = await openEmbeddedPostgres({ folder: join(folder, 'postgres'), log: () => undefined });
  admin = new pg.Client({ connectionString: postgres.url });
  await admin.connect();
  await admin.query('create database book');
  await offerTls();
});
afterAll(async () => {
  await admin.end();
  await postgres.close();
  rmSync(folder, { recursive: true, force: true });
});

/** PostgreSQL reads its key only if nobody else may. */
async function offerTls(): Promise<void> {
  const { rows } = await admin.query<{ data_directory: string }>('show data_directory');
  const place = rows[0]?.data_directory ?? '';
  const owner = statSync(place);
  for (const name of ['server', 'server-key']) {
    const path = join(place, `${name}.pem`);
    copyFileSync(fixture(name), path);
    chmodSync(path, 0o600);
    chownSync(path, owner.uid, owner.gid);
  }
  await admin.query(`alter system set ssl_cert_file = 'server.pem'`);
  await admin.query(`alter system set ssl_key_file = 'server-key.pem'`);
  await admin.query('alter system set ssl = on');
  await admin.query('select pg_reload_conf()');
}

/** The database `book` as a setting, changed. */
function bookAt(change: (url: URL) => void): string {
  const url = new URL(postgres.url);
  url.hostname = 'localhost';
  url.pathname = '/book';
  change(url);
  return url.href;
}

test('with sslmode=verify-full every connection to the database is encrypted', async () => {
  const url = bookAt((to) => {
    to.searchParams.set('sslmode', 'verify-full');
    to.searchParams.set('sslrootcert', authority);
  });
  const server = await startServe({ DATABASE_URL: url, SWEEPBOOK_HOME: join(folder, 'home') });
  const connected = async () => {
    const { rows } = await admin.query<{ name: string; ssl: boolean }>(
      `select distinct application_name as name, ssl
       from pg_stat_activity join pg_stat_ssl using (pid)
       where datname = 'book' and backend_type = 'client backend' order by 1`,
    );
    return rows;
  };
  const token = readFileSync(join(folder, 'home', 'operator-token'), 'utf8').trim();
  const listed = await runProgram(['run', 'list'], {
    SWEEPBOOK_URL: server.address,
    SWEEPBOOK_TOKEN: token,
  });
  expect(listed.code).toBe(0);
  await until('all kinds of connections', async () => (await connected()).length === 4);
  expect(await connected()).toEqual([
    { name: 'sweepbook', ssl: true },
    { name: 'sweepbook-jobs', ssl: true },
    { name: 'sweepbook-listen', ssl: true },
    { name: 'sweepbook-reads', ssl: true },
  ]);
  expect(await server.kill('SIGTERM')).toMatchObject({ code: 0 });
});

test.each([
  [
    'an authority that is not known',
    (to: URL) => to.searchParams.set('sslmode', 'verify-full'),
    /cannot be used \(.+\): .+ name that by sslrootcert=\/path\/to\/ca\.pem in DATABASE_URL/,
  ],
  [
    'a certificate file that is not there',
    (to: URL) => to.searchParams.set('sslrootcert', '/nowhere/ca.pem'),
    /cannot be used \(ENOENT.+\/nowhere\/ca\.pem'\): correct the paths/,
  ],
  ['a database that is not there', (to: URL) => (to.pathname = '/none'), /create that database/],
  ['a wrong password', (to: URL) => (to.password = 'Geheimnis'), /correct the password/],
  ['a port where nothing listens', (to: URL) => (to.port = '1'), /nothing listens there: start/],
  [
    'a host that is none',
    (to: URL) => (to.hostname = 'none.invalid'),
    /.invalid:.+ host|names cannot be looked up/,
  ],
])('%s is told with the database and the way out, and no password', async (_, change, told) => {
  const url = bookAt(change);
  const { code, stderr } = await runProgram(['migrate'], { DATABASE_URL: url });
  expect(stderr).toMatch(told);
  expect(stderr).toContain(`sweepbook: the database ${new URL(url).host}`);
  expect(stderr).not.toContain(decodeURIComponent(new URL(url).password));
  expect(code).not.toBe(0);
});

test('a server that does not reach its database says so, too', async () => {
  const { code, stderr } = await runProgram(['serve'], {
    DATABASE_URL: bookAt((to) => (to.pathname = '/none')),
    SWEEPBOOK_HOME: join(folder, 'home'),
  });
  expect(stderr).toMatch(
    /none cannot be used \(.+\): create that database, or correct DATABASE_URL/,
  );
  expect(code).not.toBe(0);
});

test('a user who may not make tables is told what he needs', async () => {
  await admin.query(`create user visitor password 'seen'`);
  const url = bookAt((to) => {
    to.username = 'visitor';
    to.password = 'seen';
    to.pathname = '/postgres';
  });
  const { stderr, code } = await runProgram(['migrate'], { DATABASE_URL: url });
  expect(stderr).toMatch(/permission denied.+: the user must own the database/);
  expect(code).not.toBe(0);
});
