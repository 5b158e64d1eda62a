/** A capability of a JWT: what may be done, and below which path. */
export interface Capability {
  readonly name: string;
  /** By segments; [] = everything. undefined = the scope names no path. */
  readonly path: readonly string[] | undefined;
}

/** Segments of an absolute path; undefined = not one that could be compared. */
function segmentsOf(path: string): string[] | undefined {
  if (!path.startsWith('/')) return undefined;
  const segments = path.slice(1).split('/');
  // "/" and a "/" at the end say nothing.
  if (segments.at(-1) === '') segments.pop();
  const decoded: string[] = [];
  for (const segment of segments) {
    let text: string;
    try {
      text = decodeURIComponent(segment);
    } catch {
      return undefined;
    }
    // What a file system would read otherwise is nothing that a path may hold, however it is written.
    if (['', '.', '..'].includes(text) || /[/\0]/.test(text)) return undefined;
    decoded.push(text);
  }
  return decoded;
}

/** A scope as tokens and rules write it: `name` or `name:/path`. undefined = it is malformed and grants nothing. */
export function readCapability(scope: string): Capability | undefined {
  const [, name, , path] = /^([A-Za-z0-9._-]+)(:(.*))?$/.exec(scope) ?? [];
  if (name === undefined) return undefined;
  if (path === undefined) return { name, path: undefined };
  const segments = segmentsOf(path);
  return segments && { name, path: segments };
}

/**
 * Whether a token that has `granted` may do what `wanted` names: the same capability, and the wanted path is the
 * granted one or lies below it, by whole segments. `/john` does not open `/johnny`.
 */
export function covers(granted: Capability, wanted: Capability): boolean {
  if (granted.name !== wanted.name) return false;
  if (granted.path === undefined || wanted.path === undefined) {
    return granted.path === wanted.path;
  }
  return granted.path.every((segment, at) => wanted.path?.[at] === segment);
}
