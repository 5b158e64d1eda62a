import { SweepbookError } from '../errors.ts';

/** The token of an Authorization header; undefined = none was shown. UNAUTHENTICATED for another scheme. */
export function bearerToken(header: string | undefined): string | undefined {
  if (header === undefined || header.trim() === '') return undefined;
  const parts = /^Bearer +(\S+) *$/i.exec(header);
  if (parts?.[1]) return parts[1];
  throw new SweepbookError('UNAUTHENTICATED', 'Authorization is to be written as "Bearer …"');
}
