import { pino, type Logger } from 'pino';
import type { Config } from '../config.ts';

/** Lines go out together: one system call for each would be a tenth of the cost of a request. */
const logFlushMs = 100;
const logBufferBytes = 4096;

/** The log of this process: JSON lines on standard output. */
export function makeLog(config: Config): Logger {
  const destination = pino.destination({
    sync: true,
    minLength: logBufferBytes,
    periodicFlush: logFlushMs,
  });
  process.on('exit', () => destination.flushSync());
  return pino(
    {
      level: config.logLevel,
      base: { pid: process.pid, hostname: config.hostname },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: ['headers.authorization', 'token'],
    },
    destination,
  );
}
