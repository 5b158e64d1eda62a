export const auditKinds = ['READ_BACK', 'COMPARE'] as const;
export type AuditKind = (typeof auditKinds)[number];

export const auditStates = ['RUNNING', 'DONE', 'ALARM', 'DISMISSED'] as const;
export type AuditState = (typeof auditStates)[number];

/**
 * Whether so much looks wrong that it says more of the audit than of the files: a wrong mount is not a thousand lost
 * files. A single one is never too much.
 */
export function isAlarm(wrongCount: number, ofCount: number, share: number): boolean {
  return wrongCount > Math.max(1, Math.floor(ofCount * share));
}

/** How long to wait after so many bytes that took so long, to stay below a rate. */
export function pauseMs(bytes: number, tookMs: number, bytesPerSecond: number): number {
  return Math.max(0, Math.round((bytes / bytesPerSecond) * 1000 - tookMs));
}
