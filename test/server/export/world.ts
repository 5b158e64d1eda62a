import {
  backUp,
  makeDataset,
  mutate,
  newFile,
  register,
  type TestFile,
} from '../../support/scene.ts';
import type { TestServer } from '../../support/server.ts';

/** Names that mean something to shells, Tcl, XML, JSON, CSV, URLs and spreadsheets; all are legal LFNs. */
export const hostileNames = [
  'plain.root',
  'two words.root',
  ' leading and trailing .root',
  '-rf.root',
  '$HOME ${HOME} $(id) `id`.root',
  '[exit 7].root',
  '{unbalanced.root',
  'unbalanced}.root',
  '}{][.root',
  'back\\slash\\n.root',
  'back\\slash at the end.root\\',
  '"double" and \'single\'.root',
  ';exit;#comment.root',
  '#.root',
  'a&b<c>d]]>&amp;.root',
  '=1+1,"x".root',
  '100%_%20%s*?~!^|.root',
  'Straße-été-物理.root',
  'emoji-😀.root',
  'not-in-xml-\uFFFE.root',
  '\u202Eright-to-left.root',
  '\uFEFFbyte-order-mark.root',
];

export interface World {
  readonly name: string;
  /** By LFN, as lists have them. */
  readonly files: readonly TestFile[];
}

/** A dataset of many files without a backup, quick; closed. */
export async function makeLarge(
  { operator, database }: TestServer,
  name: string,
  fileCount: number,
): Promise<void> {
  const waiver = { backupWaived: true, waiverReason: 'a test' };
  await mutate(operator, 'createDataset', { name, kind: 'PR', ...waiver });
  await database.sql(`
    with added as (
      insert into files (lfn, kind, site_id, size_bytes, adler32, event_count)
      select format('/large/%s/file%s.root', '${name}', lpad(n::text, 7, '0')), 'MERGED_FILE',
        (select min(id) from sites), 1000, '00000001', 10
      from generate_series(1, ${fileCount}) n returning id)
    select count(*) from added`);
  await database.sql(`
    insert into dataset_files (dataset_id, file_id)
    select d.id, f.id from datasets d, files f where d.name = '${name}' and f.lfn like '/large/${name}/%'`);
  await mutate(operator, 'closeDataset', { dataset: name });
}

export const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** A closed dataset of files with all these names, each of one run: 100 the first, 101 the next … */
export async function hostileWorld(server: TestServer, name = 'hostile'): Promise<World> {
  const { operator } = server;
  const runs = hostileNames.map((_, i) => ({
    number: 100 + i,
    source: 'DATA',
    eventCount: 1000,
    luminosity: 0.5,
    conditions: i % 2 === 0 ? 'ON_PEAK' : 'OFF_PEAK',
  }));
  await mutate(operator, 'registerRuns', { runs }, 'results { outcome }');
  const files = await Promise.all(
    hostileNames.map((text, i) =>
      newFile(`/hostile/${name}/${text}`, {
        eventCount: 10 * (i + 1),
        runs: [{ number: 100 + i, source: 'DATA' }],
      }),
    ),
  );
  await register(operator, ...files);
  await backUp(operator, ...files);
  await makeDataset(operator, name, 'CLOSED', { files, treeName: 'Events', stream: 'AllEvents' });
  return { name, files: files.toSorted((a, b) => byBytes(a.lfn, b.lfn)) };
}
