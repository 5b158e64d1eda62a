import { join } from 'node:path';
import type { Config } from './config.ts';

/** For the person at the terminal; the log has it in JSON. */
export function greet(config: Config, address: string, token: string | undefined): void {
  const lines = [
    `Sweepbook is up: ${address}`,
    ...(config.graphiql ? [`GraphiQL:        ${address}/graphiql`] : []),
    ...(token === undefined
      ? []
      : [
          `Operator token:  ${token}`,
          `                 (shown this once; kept in ${join(config.home, 'operator-token')} for the command line)`,
        ]),
  ];
  process.stderr.write(`\n${lines.join('\n')}\n\n`);
}
