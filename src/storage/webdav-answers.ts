import { parseXml, XmlElement } from '@rgrove/parse-xml';
import type { StoredFile } from './contract.ts';

/**
 * The files and folders in a PROPFIND answer (RFC 4918), keys below `rootPath`; folders end with a slash, and the root
 * is ''. Throws when something in it cannot be read: half a listing is none.
 */
export function readMultistatus(xml: string, rootPath: string): StoredFile[] {
  const root = parseXml(xml).root;
  if (!root || localName(root) !== 'multistatus') throw new Error('no multistatus in it');
  const found: StoredFile[] = [];
  for (const response of childrenOf(root, 'response')) {
    const href = childrenOf(response, 'href')[0]?.text.trim();
    if (href === undefined) throw new Error('an entry without href');
    const path = decodeURIComponent(new URL(href, 'http://store').pathname);
    const decodedRoot = decodeURIComponent(rootPath);
    if (!`${path}/`.startsWith(decodedRoot))
      throw new Error(`${path.slice(0, 200)} is not below the root`);
    const key = path.slice(decodedRoot.length);
    const prop = childrenOf(response, 'propstat').flatMap((stat) =>
      / 200 /.test(childrenOf(stat, 'status')[0]?.text ?? ' 200 ') ? childrenOf(stat, 'prop') : [],
    )[0];
    const types = prop ? childrenOf(prop, 'resourcetype')[0] : undefined;
    if (types && childrenOf(types, 'collection').length > 0) {
      const name = key === '' || key.endsWith('/') ? key : `${key}/`;
      found.push({ key: name, sizeBytes: 0, changedAt: undefined });
      continue;
    }
    const length = prop && childrenOf(prop, 'getcontentlength')[0]?.text.trim();
    if (!length || !/^\d{1,16}$/.test(length)) throw new Error(`${key.slice(0, 200)} has no size`);
    const when = new Date((prop && childrenOf(prop, 'getlastmodified')[0]?.text) ?? '');
    found.push({
      key,
      sizeBytes: Number(length),
      changedAt: Number.isNaN(when.getTime()) ? undefined : when,
    });
  }
  // XRootD cuts off the last of 255 bytes: then it is the name of another file, too.
  const keys = new Set(found.map(({ key }) => key));
  if (keys.size !== found.length) throw new Error('it names a file twice');
  return found;
}

const localName = (element: XmlElement) => element.name.split(':').at(-1);

function childrenOf(element: XmlElement, name: string): XmlElement[] {
  return element.children.filter(
    (child): child is XmlElement => child instanceof XmlElement && localName(child) === name,
  );
}

/** Digest: adler32=39cad0bf,md5=…; anything but eight lower-case digits, or two answers, is not one. */
export function adler32Of(digest: string | string[] | undefined): { adler32?: string } {
  const said = [digest ?? []]
    .flat()
    .flatMap((line) => line.split(','))
    .map((part) => part.trim())
    .filter((part) => /^adler32=/i.test(part))
    .map((part) => part.slice('adler32='.length));
  const [one, ...more] = said;
  return one !== undefined && more.length === 0 && /^[0-9a-f]{8}$/.test(one)
    ? { adler32: one }
    : {};
}
