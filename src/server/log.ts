import { pino, type Logger, type LoggerOptions } from 'pino';
import type { Config } from '../config.ts';

/** Lines go out together: one system call for each would be a tenth of the cost of a request. */
const logFlushMs = 100;
const logBufferBytes = 4096;

/** What a line of the log has, and what it never has. */
export const logOptions = (config: Pick<Config, 'logLevel' | 'hostname'>): LoggerOptions => ({
  level: config.logLevel,
  base: { pid: process.pid, hostname: config.hostname },
  timestamp: pino.stdTimeFunctions.isoTime,
  formatters: { level: (label) => ({ level: label }) },
  redact: ['headers.authorization', 'token'],
});

/** The log of this process: JSON lines on standard output. */
export function makeLog(config: Config): Logger {
  const destination = pino.destination({
    sync: true,
    minLength: logBufferBytes,
    periodicFlush: logFlushMs,
  });
  process.on('exit', () => destination.flushSync());
  return pino(logOptions(config), destination);
}
