import type { Transform } from 'node:stream';
import { constants, createGzip, createZstdCompress } from 'node:zlib';

/** How a body is packed; undefined = nothing that the client takes. */
export type Encoding = 'identity' | 'gzip' | 'zstd';

/** The best first; at the same weight the first one is taken. */
const known: readonly Encoding[] = ['zstd', 'gzip', 'identity'];

/** What Accept-Encoding asks for (RFC 9110, 12.5.3): the weights decide. */
export function chosenEncoding(header: string | undefined): Encoding | undefined {
  if (header === undefined || header.trim() === '') return 'identity';
  const weights = new Map<string, number>();
  for (const part of header.toLowerCase().split(',').slice(0, 50)) {
    const [coding = '', ...parameters] = part.split(';').map((word) => word.trim());
    const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1';
    weights.set(coding === 'x-gzip' ? 'gzip' : coding, Number(weight) || 0);
  }
  const weightOf = (encoding: Encoding) =>
    // Unpacked is always taken unless it is refused.
    weights.get(encoding) ?? weights.get('*') ?? (encoding === 'identity' ? 0.001 : 0);
  const best = known.toSorted((a, b) => weightOf(b) - weightOf(a))[0];
  return best && weightOf(best) > 0 ? best : undefined;
}

/** Fast levels: names of files pack well at any. */
export function packer(encoding: 'gzip' | 'zstd'): Transform {
  return encoding === 'gzip'
    ? createGzip({ level: 3 })
    : createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
}
