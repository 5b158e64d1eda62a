import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { adler32 } from 'hash-wasm';
import { isInstalled } from '../test/support/installed.ts';
import { SwiftForTests } from '../test/support/swift.ts';
import { XrootdForTests } from '../test/support/xrootd.ts';
import type { Bench } from './bench.ts';
import { build, programOf } from './contestants.ts';
import { makeFiles } from './made-files.ts';
import { median, number } from './report.ts';

interface Described {
  readonly path: string;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
}

interface FileSet {
  readonly name: string;
  readonly files: readonly Described[];
}

/** What is measured: into an empty folder; milliseconds. `beside`: the contestant that is its 100 %. */
interface Way {
  readonly name: string;
  readonly beside: string;
  readonly run: (set: FileSet, folder: string) => number | Promise<number>;
}

/** As many as a worker has in hand. */
const concurrency = 4;

async function describe(path: string): Promise<Described> {
  const bytes = readFileSync(path);
  return {
    path,
    lfn: `/bench/${basename(path)}`,
    sizeBytes: bytes.length,
    adler32: await adler32(bytes),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

/** The driver in a process of its own, compiled as users run it. */
function ours(kind: string, settings: object, { files }: FileSet, asking: string): number {
  const input = JSON.stringify({ kind, settings, files, concurrency, asking });
  const told = execFileSync(process.execPath, [programOf('stores')], { input });
  return (JSON.parse(told.toString()) as { ms: number }).ms;
}

/** A line of shell over the paths of the files; $0 is the folder. */
function shell(line: string, { files }: FileSet, folder: string): number {
  const begun = performance.now();
  execFileSync('sh', ['-c', line, folder, ...files.map(({ path }) => path)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return performance.now() - begun;
}

/** A package of Debian that is measured beside us; installed where that can be done. */
function hasRclone(): boolean {
  try {
    execFileSync('sh', ['-c', 'command -v rclone || apt-get install -y -q rclone'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return true;
  } catch (error) {
    process.stderr.write(`NOT MEASURED: rclone, it cannot be installed: ${String(error)}\n`);
    return false;
  }
}

const cp = 'cp, sync, sha256sum';
const xrdcpEach = 'xrdcp --cksum for each file';
const xrdcpBack = `${xrdcpEach}, xrdcp back, sha256sum`;

const folderWays: readonly Way[] = [
  {
    name: 'directory driver, READ_BACK',
    beside: cp,
    run: (set, root) => ours('directory', { name: 'dir', root }, set, 'READ_BACK'),
  },
  {
    name: cp,
    beside: cp,
    run: (set, folder) => shell('cp "$@" $0 && sync -d $0/* && sha256sum $0/*', set, folder),
  },
];
/** There and back by rclone; `env` says what a remote is. */
function rclone(set: FileSet, into: string, env: Record<string, string> = {}): number {
  const source = join(set.files[0]?.path ?? '', '..');
  const begun = performance.now();
  for (const args of [['copy'], ['check', '--download', '--one-way']]) {
    execFileSync('rclone', [...args, '--transfers', `${concurrency}`, source, into], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    });
  }
  return performance.now() - begun;
}

const rcloneCheck = 'rclone copy, rclone check --download';
const rcloneWay: Way = { name: rcloneCheck, beside: cp, run: rclone };

function s3Ways({ endpoint }: SwiftForTests): Way[] {
  const bucket = 'bench';
  const [accessKey, secretKey] = ['test:tester', 'testing'];
  process.env['BENCH_S3_ACCESS'] = accessKey;
  process.env['BENCH_S3_SECRET'] = secretKey;
  const remote = {
    RCLONE_CONFIG_S_TYPE: 's3',
    RCLONE_CONFIG_S_PROVIDER: 'Other',
    RCLONE_CONFIG_S_ENDPOINT: endpoint,
    RCLONE_CONFIG_S_REGION: 'us-east-1',
    RCLONE_CONFIG_S_ACCESS_KEY_ID: accessKey,
    RCLONE_CONFIG_S_SECRET_ACCESS_KEY: secretKey,
  };
  execFileSync('rclone', ['mkdir', `s:${bucket}`], { env: { ...process.env, ...remote } });
  const settings = (folder: string) => ({
    name: 's3',
    endpoint,
    bucket,
    prefix: `${basename(folder)}-ours/`,
    accessKey: { env: 'BENCH_S3_ACCESS' },
    secretKey: { env: 'BENCH_S3_SECRET' },
  });
  const byHand = `${rcloneCheck}, to S3`;
  return [
    {
      name: 's3 driver, READ_BACK',
      beside: byHand,
      run: (set, folder) => ours('s3', settings(folder), set, 'READ_BACK'),
    },
    {
      name: byHand,
      beside: byHand,
      run: (set, folder) => rclone(set, `s:${bucket}/${basename(folder)}`, remote),
    },
  ];
}

function xrootdWays(server: XrootdForTests): Way[] {
  const settings = (folder: string) => ({
    name: 'xrd',
    url: server.url,
    root: `/store/${basename(folder)}`,
  });
  const door = (folder: string) => ({
    name: 'door',
    root: `${server.door}/store/${basename(folder)}`,
  });
  const there = (folder: string) => `${server.url}//store/${basename(folder)}`;
  const xrdcp = 'xrdcp --nopbar --posc --rm-bad-cksum --cksum adler32:source';
  const each = (line: string) => `printf '%s\\n' "$@" | xargs -P ${concurrency} -I{} ${line}`;
  const put = (url: string) => each(`${xrdcp} {} ${url}/`);
  const back = (url: string) => each(`sh -c 'xrdcp --nopbar ${url}/$(basename {}) - | sha256sum'`);
  const ways = (level: string, asking: string, beside: string): Way[] => [
    {
      name: `xrootd driver, ${level}`,
      beside,
      run: (set, folder) => ours('xrootd', settings(folder), set, asking),
    },
    {
      name: `webdav driver, XRootD's HTTP door, ${level}`,
      beside,
      run: (set, folder) => ours('webdav', door(folder), set, asking),
    },
  ];
  return [
    ...ways('COPIED', 'SAYS', xrdcpEach),
    {
      name: xrdcpEach,
      beside: xrdcpEach,
      run: (set, folder) => shell(put(there(folder)), set, folder),
    },
    {
      name: 'one xrdcp --cksum --parallel for all',
      beside: xrdcpEach,
      run: (set, folder) =>
        shell(`${xrdcp} --parallel ${concurrency} "$@" ${there(folder)}/`, set, folder),
    },
    ...ways('READ_BACK', 'READ_BACK', xrdcpBack),
    {
      name: xrdcpBack,
      beside: xrdcpBack,
      run: (set, folder) => shell(`${put(there(folder))} && ${back(there(folder))}`, set, folder),
    },
  ];
}

/** Rounds in turns, so that a slow minute is everybody's. */
async function measure(set: FileSet, ways: readonly Way[], rounds: number, parent: string) {
  const told = new Map(ways.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, run } of ways) {
      const folder = mkdtempSync(join(parent, 'into-'));
      // The server is somebody else.
      chmodSync(folder, 0o777);
      try {
        told.get(name)?.push(await run(set, folder));
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  }
  const ms = (name: string) => median(told.get(name) ?? []);
  const bytes = set.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return ways.map(({ name, beside }) => [
    set.name,
    name,
    `${number((100 * ms(beside)) / ms(name), 0)} %${name === beside ? '' : ` of ${beside}`}`,
    number(bytes / 1e3 / ms(name), 0),
    number(ms(name) / set.files.length, 1),
  ]);
}

/** Files into a directory, into XRootD and into S3 by our drivers, beside the tools that one would use by hand. */
export const stores: Bench = async ({ options }) => {
  build();
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-bench-stores-'));
  const server = isInstalled('xrootd') ? await XrootdForTests.start() : undefined;
  const swift = isInstalled('swift') && hasRclone() ? await SwiftForTests.start() : undefined;
  try {
    const byS3 = swift ? s3Ways(swift) : [];
    const sets = [
      { name: '8 × 100 MB', count: 8, bytes: 100_000_000 },
      { name: '100 × 1 MB', count: 100, bytes: 1_000_000 },
    ];
    const inFolder = hasRclone() ? [...folderWays, rcloneWay] : folderWays;
    const rows = [];
    for (const { name, count, bytes } of sets) {
      const made = makeFiles(join(folder, `data-${count}`), count, bytes);
      const set = { name, files: await Promise.all(made.map(describe)) };
      rows.push(...(await measure(set, inFolder, options.rounds, folder)));
      if (byS3.length > 0) rows.push(...(await measure(set, byS3, options.rounds, folder)));
      if (!server) continue;
      const parent = server.path('');
      mkdirSync(parent, { recursive: true });
      rows.push(...(await measure(set, xrootdWays(server), options.rounds, parent)));
    }
    return {
      name: 'stores',
      title: 'files into a mass store, by driver and by hand',
      about: [
        `${options.rounds} ${options.rounds === 1 ? 'round' : 'rounds'} in turns, medians. A driver does all that a worker does: put under a temporary name, synced; ` +
          `asked for size and checksums (COPIED: the server says adler32; READ_BACK: all bytes read again, adler32 and sha256); ` +
          `published. ${concurrency} files at a time, by hand too (xargs -P, --parallel, --transfers). XRootD, and OpenStack Swift ` +
          `as S3, run on the same host and cores.`,
      ],
      columns: ['files', 'how', 'speed', 'MB a second', 'ms a file'],
      rows,
    };
  } finally {
    await server?.stop();
    await swift?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
};
