/*
 * Runs commands one after the other in this process, as src/cli/main.ts runs one: a process for each would take half a
 * second. Reads [[arguments], …] as JSON from the file that is named; writes what came of each, a line each, to the
 * file beside it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';

interface Program {
  makeProgram(): { parseAsync(args: readonly string[], from: { from: 'user' }): Promise<unknown> };
  report(error: unknown): number;
}
// What users run is compiled.
const cli = (await import(new URL('../../dist/cli/program.js', import.meta.url).href)) as Program;

/** Who follows something would follow it for ever. */
const longestMs = (args: readonly string[]) => (args.includes('watch') ? 150 : 5000);
const [, , file = ''] = process.argv;

function capture(stream: NodeJS.WriteStream): { text: string; end(): void } {
  const write = stream.write.bind(stream);
  const caught = { text: '', end: () => void (stream.write = write) };
  stream.write = (chunk: string | Uint8Array) => {
    caught.text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
    return true;
  };
  return caught;
}

async function run(args: readonly string[]) {
  Object.defineProperty(process, 'stdin', { value: Readable.from([]), configurable: true });
  process.exitCode = undefined;
  const stdout = capture(process.stdout);
  const stderr = capture(process.stderr);
  const late = setTimeout(() => process.emit('SIGINT'), longestMs(args));
  try {
    await cli.makeProgram().parseAsync(args, { from: 'user' });
  } catch (error) {
    process.exitCode = cli.report(error);
  } finally {
    clearTimeout(late);
    stdout.end();
    stderr.end();
    process.removeAllListeners('SIGINT');
    process.removeAllListeners('SIGTERM');
    process.stdout.removeAllListeners('error');
  }
  return { code: process.exitCode, stdout: stdout.text, stderr: stderr.text };
}

const commands = JSON.parse(readFileSync(file, 'utf8')) as string[][];
const results = [];
for (const args of commands) results.push(await run(args));
writeFileSync(`${file}.done`, JSON.stringify(results));
process.exit(0);
