import { spawnSync } from 'node:child_process';

/*
 * Asks the registry for known holes of what the program is made of. Exit code 1 for grave ones; with --tell they are
 * told, and nobody's change is stopped by what has been found in somebody else's package meanwhile. Not every network
 * lets the question through: that is said, and is no failure.
 */
interface Report {
  readonly vulnerabilities?: Record<
    string,
    { severity: string; range: string; fixAvailable: unknown }
  >;
  readonly metadata?: object;
  readonly message?: string;
  readonly error?: { summary?: string };
}

const say = (text: string) => process.stderr.write(`${text}\n`);
const args = ['audit', '--omit', 'dev', '--json', '--fetch-timeout=10000', '--fetch-retries=0'];
const { stdout } = spawnSync('npm', args, { encoding: 'utf8', timeout: 30_000 });

function read(text: string): Report {
  try {
    return JSON.parse(text) as Report;
  } catch {
    return {};
  }
}

const report = read(stdout ?? '');
if (!report.metadata || !report.vulnerabilities) {
  const why = report.message ?? report.error?.summary ?? 'it did not answer';
  say(`KNOWN HOLES WERE NOT LOOKED FOR: the registry cannot be asked (${why.split('\n')[0]})`);
} else {
  const grave = Object.entries(report.vulnerabilities).filter(([, { severity }]) =>
    ['high', 'critical'].includes(severity),
  );
  for (const [name, { severity, range, fixAvailable }] of grave) {
    say(`KNOWN HOLE (${severity}): ${name} ${range}${fixAvailable ? ', mended since' : ''}`);
  }
  if (grave.length === 0) say('no grave holes are known of what this is made of');
  if (grave.length > 0 && !process.argv.includes('--tell')) process.exitCode = 1;
}
