import type { IncomingMessage } from 'node:http';
import { shown, SweepbookError } from '../errors.ts';

/** The token of an Authorization header; undefined = none was shown. UNAUTHENTICATED for another scheme. */
export function bearerToken(header: string | undefined): string | undefined {
  if (header === undefined || header.trim() === '') return undefined;
  const parts = /^Bearer +(\S+) *$/i.exec(header);
  if (parts?.[1]) return parts[1];
  throw new SweepbookError('UNAUTHENTICATED', 'Authorization is to be written as "Bearer …"');
}

/** Browsers cannot set headers on a WebSocket: the token comes in connection_init, as GraphiQL sends it. */
export function tokenOf(
  parameters: Record<string, unknown> | undefined,
  request: IncomingMessage,
): string | undefined {
  const given = [parameters, parameters?.['headers']]
    .flatMap((from) => Object.entries(from ?? {}))
    .find(([name, value]) => name.toLowerCase() === 'authorization' && value != null)?.[1];
  // Who shows something is not taken for nobody.
  if (given !== undefined && typeof given !== 'string') return bearerToken(shown(given));
  return bearerToken(given ?? request.headers.authorization);
}
