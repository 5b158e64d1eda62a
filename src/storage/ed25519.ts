import {
  createHash,
  createPrivateKey,
  createPublicKey,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import { messageOf, SweepbookError } from '../errors.ts';

export interface Signature {
  readonly algorithm: 'ed25519';
  /** Beginning of the SHA-256 of the public key. */
  readonly keyId: string;
  /** base64 */
  readonly value: string;
}

/** Says what it is, so that a signature of ours is good for nothing else. */
const signedText = (digest: string) => Buffer.from(`sweepbook manifest 1 ${digest}`);

function keyIdOf(key: KeyObject): string {
  const der = key.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('hex').slice(0, 16);
}

function readKey(path: string, make: (pem: Buffer) => KeyObject, what: string): KeyObject {
  try {
    const key = make(readFileSync(path));
    if (key.asymmetricKeyType === 'ed25519') return key;
    throw new Error(`it is a key for ${key.asymmetricKeyType}`);
  } catch (error) {
    throw new SweepbookError(
      'BAD_USER_INPUT',
      `${path} is no Ed25519 ${what} key (PEM) that can be read: ${messageOf(error)}`,
      { path },
      { cause: error },
    );
  }
}

export interface Signer {
  sign(digest: string): Signature;
}

/** What manifests of this site are signed with: a private key in PEM, as "openssl genpkey -algorithm ed25519" makes it. */
export function readSigner(path: string): Signer {
  const key = readKey(path, createPrivateKey, 'private');
  const keyId = keyIdOf(createPublicKey(key));
  return {
    sign: (digest) => ({
      algorithm: 'ed25519',
      keyId,
      value: sign(null, signedText(digest), key).toString('base64'),
    }),
  };
}

export interface KnownKey {
  readonly keyId: string;
  readonly key: KeyObject;
}

export function readPublicKey(path: string): KnownKey {
  const key = readKey(path, createPublicKey, 'public');
  return { keyId: keyIdOf(key), key };
}

/** The key id of a signature that is by one of these keys; SOURCE_NOT_ALLOWED else. */
export function verifySignature(
  digest: string,
  signature: Signature | null,
  keys: readonly KnownKey[],
  site: string,
): string {
  const known = signature && keys.find((key) => key.keyId === signature.keyId);
  const isGood =
    known && verify(null, signedText(digest), known.key, Buffer.from(signature.value, 'base64'));
  if (isGood) return known.keyId;
  throw new SweepbookError(
    'SOURCE_NOT_ALLOWED',
    signature === null
      ? `the manifest is not signed, and those of ${site} must be`
      : `the signature is not by a key of ${site} that is known here (key ${signature.keyId})`,
    { site, keyId: signature?.keyId ?? null },
  );
}
