/** Where files come in, in every store; nothing here is ever taken for a stored file. */
export const incoming = '.incoming';
/** Stands in the root of every store: without it this is an empty mount point, not a store that lost its files. */
export const marker = '.sweepbook-store';
export const markerText = 'Sweepbook keeps a mass store in this folder.\n';

const temporaryName = /^b(\d{1,15})(?:\.a(\d{1,9})|\.direct)$/;

/** The key under which an attempt copies; told apart from those of all other attempts. The same in every store. */
export function temporaryKey(backupId: number, attempt: number): string {
  return `${incoming}/b${backupId}.a${attempt}`;
}

/** The key under which a producer copies by himself; one for each record. */
export function uploadKey(backupId: number): string {
  return `${incoming}/b${backupId}.direct`;
}

export function isTemporary(key: string): boolean {
  return key.startsWith(`${incoming}/`);
}

/** Whose temporary key this is; undefined = no such key of ours. */
export function ownerOf(
  key: string,
): { readonly backupId: number; readonly attempt: number | undefined } | undefined {
  const parts = isTemporary(key) && temporaryName.exec(key.slice(incoming.length + 1));
  if (!parts) return undefined;
  const attempt = parts[2] === undefined ? undefined : Number(parts[2]);
  return { backupId: Number(parts[1]), attempt };
}

/** The key, if `remove` may be given it: of a file of the books, never the marker, nor what is coming in. */
export function demandStoredKey(key: string): string {
  const isOdd = key.split('/').some((part) => part === '' || part === '.' || part === '..');
  if (isOdd || key === marker || isTemporary(key)) throw new Error(`${key} is no key of a file`);
  return key;
}

/** Only what lies under a temporary key may be replaced or removed. */
export function demandTemporary(key: string): void {
  if (!ownerOf(key)) throw new Error(`${key} is no temporary key`);
}
