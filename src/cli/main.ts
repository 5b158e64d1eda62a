import { flushed } from './print.ts';
import { makeProgram, report } from './program.ts';

try {
  await makeProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
await flushed(process.stdout);
await flushed(process.stderr);
// What is still open (sockets of a lost connection) must not keep a finished command alive.
process.exit();
