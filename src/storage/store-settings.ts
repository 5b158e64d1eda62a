import { z } from 'zod';
import { confirmLevels } from './contract.ts';

const count = (least: number, most: number) => z.number().int().min(least).max(most);

/** When a store is audited, and how much may be wrong in it before that is an alarm; 0 days = never by itself. */
export const auditSettings = z.strictObject({
  /** All that was confirmed is read back so many days after the last time. */
  readBackDays: z.number().int().min(0).max(3650).default(90),
  /** By all that reads, together: there is one reader for each store. */
  bytesPerSecond: count(1000, 1e12).default(50_000_000),
  /** The catalogue and the store are compared so many days after the last time. */
  compareDays: z.number().int().min(0).max(3650).default(7),
  /** More than this share wrong, and more than one file: nothing is touched, and somebody has to look. */
  alarmShare: z.number().min(0).max(1).default(0.01),
});
export type AuditSettings = z.infer<typeof auditSettings>;

const seconds = (least: number, most: number) => z.number().min(least).max(most);

/** When a copy that failed is tried again, and how long tape may take before that is told. */
export const retrySettings = z
  .strictObject({
    /** The wait after the first failure is up to this long; unset = as long as the server says. */
    firstSeconds: seconds(0.001, 86_400).optional(),
    /** It grows by so much with each failure, */
    factor: z.number().min(1).max(10).default(2),
    /** up to this. */
    longestSeconds: seconds(0.001, 604_800).default(600),
    /** A copy that has waited for tape for so long is told as late; it goes on waiting. */
    tapeHours: count(1, 8760).default(72),
  })
  .refine(({ firstSeconds = 0, longestSeconds }) => firstSeconds <= longestSeconds, {
    path: ['firstSeconds'],
    message: 'at most longestSeconds: lower it, or raise longestSeconds',
  });

/** What every store has in the store file, whatever its kind. */
export const commonSettings = {
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'letters, digits, ".", "_" and "-", at most 64'),
  /** Used when no store is named. */
  default: z.boolean().default(false),
  /** What a backup needs before it counts. */
  confirm: z.enum(confirmLevels).default('READ_BACK'),
  /** Copies at once, over all workers. */
  concurrency: count(1, 64).default(4),
  /** Attempts at one file before it is FAILED. */
  attempts: count(1, 100).default(8),
  retry: retrySettings.prefault({}),
  /** What stands before a key in the URLs that jobs get; unset = as the kind has it. */
  accessUrlPrefix: z.string().min(1).optional(),
  audit: auditSettings.prefault({}),
  /** How long one question may take, in seconds. */
  askSeconds: count(1, 3600).default(30),
  /** A copy that is slower, in bytes a second, is broken off; each has a minute besides. */
  leastBytesPerSecond: count(1000, 1e10).default(1_000_000),
};

/** How long a copy of so many bytes may take, in milliseconds. */
export function copyDeadlineMs(
  sizeBytes: number,
  { leastBytesPerSecond }: { leastBytesPerSecond: number },
): number {
  return 60_000 + Math.ceil((sizeBytes / leastBytesPerSecond) * 1000);
}
