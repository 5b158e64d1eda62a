import type { Bench } from './bench.ts';
import { build, installContestants, startSweepbook, type Contestant } from './contestants.ts';
import { startCopy } from './copy.ts';
import { datasetName, ensureData } from './data.ts';
import { median, number } from './report.ts';

interface Streamed {
  readonly ms: number;
  readonly firstByteMs: number;
  readonly lines: number;
  readonly mostRssBytes: number;
}

/** Reads a whole export, and looks at the memory of the server meanwhile. */
async function read(server: Contestant): Promise<Streamed> {
  const path = `/export/datasets/${datasetName(0)}/files?format=jsonl`;
  let mostRssBytes = 0;
  const timer = setInterval(() => (mostRssBytes = Math.max(mostRssBytes, server.rssBytes())), 50);
  const begun = performance.now();
  try {
    // Unpacked, as COPY is.
    const headers = { 'accept-encoding': 'identity' };
    const response = await fetch(server.url.replace(/\/graphql$/, path), { headers });
    if (!response.ok || !response.body) throw new Error(`no export: ${response.status}`);
    let firstByteMs: number | undefined;
    let lines = 0;
    for await (const chunk of response.body) {
      firstByteMs ??= performance.now() - begun;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
    }
    return { ms: performance.now() - begun, firstByteMs: firstByteMs ?? 0, lines, mostRssBytes };
  } finally {
    clearInterval(timer);
  }
}

/** One dataset of 1,000,000 files as JSON lines, beside COPY of the same rows as text. */
export const exports: Bench = async ({ cluster, options }) => {
  installContestants();
  build();
  const size = { ...options.size, datasets: 1 };
  const url = cluster.urlOf(await ensureData(cluster, size));
  const statement = `copy (select f.lfn, b.store_key, f.size_bytes, f.event_count, f.adler32, f.sha256
    from dataset_files df join files f on f.id = df.file_id
    join backup_records b on b.file_id = f.id and b.status = 'CONFIRMED'
    where df.dataset_id = 1 order by df.lfn) to stdout`;
  const server = await startSweepbook('sweepbook', url);
  const copy = await startCopy(url);
  const ours: Streamed[] = [];
  const theirs: { ms: number; firstByteMs: number }[] = [];
  let rssBefore = 0;
  try {
    rssBefore = server.rssBytes();
    for (let round = 0; round < options.rounds; round++) {
      const streamed = await read(server);
      if (streamed.lines < size.filesEach) throw new Error(`only ${streamed.lines} lines`);
      ours.push(streamed);
      const { ms, firstByteMs = 0 } = await copy.run({ statement });
      theirs.push({ ms, firstByteMs });
    }
  } finally {
    await copy.close();
    await server.close();
  }
  const middle = <T>(from: readonly T[], of: (one: T) => number) => median(from.map(of));
  const copyMs = middle(theirs, ({ ms }) => ms);
  const row = (name: string, ms: number, firstByteMs: number, memory: string) => [
    name,
    `${number((100 * copyMs) / ms, 0)} %`,
    number((size.filesEach / ms) * 1000, 0),
    number(firstByteMs, 0),
    memory,
  ];
  const mb = (bytes: number) => number(bytes / 2 ** 20, 0);
  return {
    name: 'export',
    title: `${size.filesEach.toLocaleString('en')} files of one dataset as jsonl`,
    about: [
      `${options.rounds} rounds in turns, medians; memory is the most that was seen, and before the first. Without a token. ` +
        'COPY writes the same rows, in the same order, as text, through the driver into nowhere; it names no runs. Goals: ' +
        '50 % of COPY, 200 MB, 500 ms. What stands between: a page of 2,000 files looks each of them up in five indexes and ' +
        'holds no transaction when it is out; COPY joins whole tables in one.',
    ],
    columns: ['how', 'of COPY', 'files a second', 'first byte ms', 'RSS MB (before)'],
    rows: [
      row(
        'GET /export, jsonl',
        middle(ours, ({ ms }) => ms),
        middle(ours, ({ firstByteMs }) => firstByteMs),
        `${mb(Math.max(...ours.map(({ mostRssBytes }) => mostRssBytes)))} (${mb(rssBefore)})`,
      ),
      row(
        'COPY … TO STDOUT',
        copyMs,
        middle(theirs, ({ firstByteMs }) => firstByteMs),
        '–',
      ),
    ],
  };
};
