import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../src/', import.meta.url));

/** Beginnings of statements; prose begins otherwise, or with a capital. */
const statement =
  '(?:select|insert into|update \\S+ set|delete from|with \\w+ as|create|drop|alter|truncate|listen|notify|unlisten|copy|grant|set (?:local )?\\w+ ?(?:=|to))\\b';
const forms = {
  'SQL in a text that is put together': new RegExp(
    `(?<!\\bsql(?:<[^\`]*>)?)\`\\s*${statement}[^\`]*?\\$\\{[^\`]*\``,
    'g',
  ),
  'SQL in texts that are added': new RegExp(
    `(?:'\\s*${statement}[^'\\n]*'|"\\s*${statement}[^"\\n]*")\\s*\\+`,
    'g',
  ),
  'a text that becomes SQL':
    /\bsql\.(?:raw|lit|ref|id|table)\([^\n]*|\bCompiledQuery\b[^\n]*|\.(?:raw|executeSql)\([^\n]*/g,
  'a statement past the pool': /\.query(?:<[^(]*>)?\((?!['{])[^\n]*/g,
};

/** What of these forms a source has, as `form: text`. */
function found(source: string): string[] {
  return Object.entries(forms).flatMap(([form, pattern]) =>
    [...source.matchAll(pattern)].map(
      ([text]) => `${form}: ${text.replaceAll(/\s+/g, ' ').slice(0, 100)}`,
    ),
  );
}

/** Looked at one by one: constants of the program, and names that it has chosen itself. */
const known: Record<string, RegExp[]> = {
  'access/audit-trail.queries.ts': [/sql\.ref\(`a\.\$\{column\}`\)/],
  'api/json-text.ts': [/sql\.lit\(notReadable\)/, /sql\.lit\(part\)/],
  'api/read-model.ts': [/sql\.lit\(`\$\{name\}:`\)/],
  'api/read-statement.ts': [
    /sql\.lit\(limit\)/,
    /sql\.ref\((alias|place|`\$\{alias\}\.\$\{name\}`)\)/,
    /sql\.lit\(asked\.after \? 'true' : 'false'\)/,
    /sql\.lit\(first\)/,
  ],
  'database/cursor.ts': [
    /sql\.lit\(`\[\$\{JSON\.stringify\(order\)\}`\)/,
    /sql\.lit\(checkLength\)/,
  ],
  'database/doorbell.ts': [
    /listen \$\{channel\}; listen \$\{progressChannel\}/,
    /\.query\(`listen/,
  ],
  'database/page.ts': [
    /sql\.ref\((keyColumn\(i\)|`p\.\$\{keyColumn\(i\)\}`)\)/,
    /sql\.lit\(limit\)/,
    /sql\.raw\(type\)/,
  ],
  'database/read-pool.ts': [/\.query\(settings\)/],
  'database/embedded-postmaster.ts': [/create database \$\{role\}/, /\.query\(sql\)/],
  'datasets/datasets-export.queries.ts': [/sql\.ref\(name\)/, /sql\.lit\(none\)/],
  'datasets/datasets.queries.ts': [/sql\.lit\(source\)/],
  'incidents/counts.queries.ts': [/sql\.ref\(name\)/],
  'incidents/hits.queries.ts': [/sql\.lit\(mostUnknown\)/],
  'incidents/loss-table.queries.ts': [/sql\.lit\(most\w+(\.\w+)?\)/],
  'production/totals.queries.ts': [/sql\.ref\(columns\[key\]\.as\)/, /sql\.table\(table\)/],
  'runs/dqm.queries.ts': [/sql\.lit\(mostVerdicts\)/],
};

test('no SQL is built from text', () => {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const faults = files.flatMap((name) =>
    found(readFileSync(`${root}${name}`, 'utf8'))
      .filter((text) => !known[name]?.some((pattern) => pattern.test(text)))
      .map((text) => `${name}: ${text}`),
  );
  expect(faults, 'values are parameters: sql`… ${value}`').toEqual([]);
});

test.each([
  ['`select * from runs where number = ${number}`', true],
  ["await client.query(`delete from x where name = '${name}'`)", true],
  ['"select * from runs where name = \'" + name', true],
  ["'update runs set x = ' + value", true],
  ['sql.raw(filter.order)', true],
  ['pool.query(text)', true],
  ['sql`select * from runs where number = ${number}`', false],
  ['sql<{ id: number }>`\n    insert into runs values (${number})`', false],
  ["await holder.query('select 1', [lock])", false],
  ['`Select what you want, ${name}`', false],
])('the check sees what it is to see: %s', (source, isFault) => {
  expect(found(source).length > 0).toBe(isFault);
});
