// The least that can be done: node:http, and one prepared statement that returns the answer as JSON text.
import { createServer } from 'node:http';
import pg from 'pg';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 12 });

const files = `(select json_build_object('name', d.name, 'files', json_build_object('nodes', (
  select coalesce(json_agg(json_build_object('lfn', f.lfn, 'sizeBytes', f.size_bytes, 'adler32', f.adler32,
    'eventCount', f.event_count, 'backups', (
      select json_agg(json_build_object('status', b.status, 'storeKey', b.store_key, 'confirmedAt', b.confirmed_at))
      from backup_records b where b.file_id = f.id and b.status = 'CONFIRMED'))), '[]')
  from (select file_id, lfn from dataset_files where dataset_id = d.id order by lfn limit $2) df
  join files f on f.id = df.file_id))) from datasets d where d.name = $1 and d.is_available)`;

const statements = {
  dataset: `select json_build_object('data', json_build_object('dataset', (
    select json_build_object('name', name, 'kind', kind, 'status', status, 'owner', owner, 'fileCount', file_count,
      'sizeBytes', size_bytes, 'eventCount', event_count, 'closedAt', closed_at)
    from datasets where name = $1 and is_available)))::text as answer`,
  files: `select json_build_object('data', json_build_object('dataset', ${files}))::text as answer`,
  datasets: `select json_build_object('data', json_build_object('datasets', json_build_object('nodes', (
    select json_agg(json_build_object('name', name, 'kind', kind, 'status', status, 'fileCount', file_count,
      'sizeBytes', size_bytes, 'closedAt', closed_at))
    from (select * from datasets where kind = any ($1::text[]) and status = any ($2::text[]) and is_available
      order by name limit $3) d))))::text as answer`,
};

async function answer(body, response) {
  try {
    const { statement, values } = JSON.parse(body);
    const { rows } = await pool.query({ name: statement, text: statements[statement], values });
    response.setHeader('content-type', 'application/json; charset=utf-8');
    response.end(rows[0].answer);
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error));
  }
}

const server = createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => void answer(Buffer.concat(parts).toString(), response));
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`listening http://127.0.0.1:${server.address().port}/\n`);
});
