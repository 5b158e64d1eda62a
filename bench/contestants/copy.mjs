// COPY through the driver: into tables (one line of JSON comes in: statements and texts), all in one transaction;
// or out of them, to nowhere. Answers each line with the milliseconds that it took, and for COPY TO its first byte.
import { createInterface } from 'node:readline';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from, to } from 'pg-copy-streams';

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();

async function copyIn(tables) {
  await client.query('begin');
  for (const { statement, text } of tables) {
    await pipeline(Readable.from([Buffer.from(text)]), client.query(from(statement)));
  }
  await client.query('commit');
  return {};
}

async function copyOut(statement) {
  const begun = performance.now();
  let firstByteMs;
  let bytes = 0;
  const nowhere = new Writable({
    write(chunk, _encoding, done) {
      firstByteMs ??= performance.now() - begun;
      bytes += chunk.length;
      done();
    },
  });
  await pipeline(client.query(to(statement)), nowhere);
  return { firstByteMs, bytes };
}

process.stdout.write('listening to\n');
for await (const line of createInterface({ input: process.stdin })) {
  const { tables, statement } = JSON.parse(line);
  const begun = performance.now();
  const more = tables ? await copyIn(tables) : await copyOut(statement);
  process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, ...more })}\n`);
}
await client.end();
