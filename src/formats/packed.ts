/** How bytes that begin so are packed; undefined = not at all. */
export function packingOf(start: Uint8Array): 'gzip' | 'zstd' | undefined {
  if (start[0] === 0x1f && start[1] === 0x8b) return 'gzip';
  const isZstd = [0x28, 0xb5, 0x2f, 0xfd].every((byte, at) => start[at] === byte);
  return isZstd ? 'zstd' : undefined;
}
