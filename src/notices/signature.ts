import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SweepbookError, systemCode } from '../errors.ts';

/** What all secrets of webhooks are made from; never in the database, never in a log. */
export interface WebhookKey {
  /** Tells keys apart, and gives nothing of them away. */
  readonly id: string;
  readonly bytes: Buffer;
}

function keyOf(text: string): WebhookKey {
  const bytes = Buffer.from(text);
  const id = createHash('sha256').update('sweepbook webhook key').update(bytes).digest('hex');
  return { id: id.slice(0, 12), bytes };
}

/** The key of the settings, or that of a file in the home folder, which the first start makes. */
export function readWebhookKey(home: string, given: string | undefined): WebhookKey {
  if (given !== undefined) return keyOf(given);
  const file = join(home, 'webhook-key');
  try {
    return keyOf(readFileSync(file, 'utf8').trim());
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw unusable(file, error);
  }
  const fresh = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    mkdirSync(home, { recursive: true });
    writeFileSync(fresh, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
    // Of two servers that start at once one makes it, and both read it whole.
    linkSync(fresh, file);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw unusable(file, error);
  } finally {
    rmSync(fresh, { force: true });
  }
  return keyOf(readFileSync(file, 'utf8').trim());
}

function unusable(file: string, error: unknown): SweepbookError {
  return new SweepbookError(
    'UNAVAILABLE',
    `the key of the webhooks cannot be kept in ${file} (${systemCode(error)}): set SWEEPBOOK_WEBHOOK_KEY`,
    { file },
    { cause: error },
  );
}

const secretBytes = 32;

/** The secret of one webhook: from the key and its salt, so that it need not be stored. */
function secretOf(key: WebhookKey, salt: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', key.bytes, salt, 'sweepbook webhook', secretBytes));
}

/** The secret as its receiver gets it, once: the form of Standard Webhooks. */
export function shownSecret(key: WebhookKey, salt: Buffer): string {
  return `whsec_${secretOf(key, salt).toString('base64')}`;
}

export interface Signed {
  /** The same whenever the notice is sent again. */
  readonly id: string;
  /** When it was signed, in seconds since 1970. */
  readonly timestamp: number;
  readonly body: string;
}

/** The headers of Standard Webhooks 1.0: HMAC-SHA256 over id.timestamp.body. */
export function signedHeaders(
  key: WebhookKey,
  salt: Buffer,
  { id, timestamp, body }: Signed,
): Record<string, string> {
  const mac = createHmac('sha256', secretOf(key, salt)).update(`${id}.${timestamp}.${body}`);
  return {
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': `v1,${mac.digest('base64')}`,
  };
}
