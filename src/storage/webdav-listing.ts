import { parseXml, XmlElement } from '@rgrove/parse-xml';
import type { StoredFile } from './contract.ts';

/**
 * The files and folders in a PROPFIND answer (RFC 4918), keys below `rootPath`; folders end with a slash. Throws when
 * something in it cannot be read: half a listing is none.
 */
export function readMultistatus(xml: string, rootPath: string, folder: string): StoredFile[] {
  const root = parseXml(xml).root;
  if (!root || localName(root) !== 'multistatus') throw new Error('no multistatus in it');
  const self = folder === '' ? '' : `${folder}/`;
  const found: StoredFile[] = [];
  for (const response of childrenOf(root, 'response')) {
    const href = childrenOf(response, 'href')[0]?.text.trim();
    if (href === undefined) throw new Error('an entry without href');
    const path = decodeURIComponent(new URL(href, 'http://store').pathname);
    const decodedRoot = decodeURIComponent(rootPath);
    if (!path.startsWith(decodedRoot))
      throw new Error(`${path.slice(0, 200)} is not below the root`);
    const key = path.slice(decodedRoot.length);
    if (key === self || `${key}/` === self || key === '') continue;
    const prop = childrenOf(response, 'propstat').flatMap((stat) =>
      / 200 /.test(childrenOf(stat, 'status')[0]?.text ?? ' 200 ') ? childrenOf(stat, 'prop') : [],
    )[0];
    const types = prop ? childrenOf(prop, 'resourcetype')[0] : undefined;
    if (types && childrenOf(types, 'collection').length > 0) {
      found.push({ key: key.endsWith('/') ? key : `${key}/`, sizeBytes: 0, changedAt: undefined });
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
  return found;
}

const localName = (element: XmlElement) => element.name.split(':').at(-1);

function childrenOf(element: XmlElement, name: string): XmlElement[] {
  return element.children.filter(
    (child): child is XmlElement => child instanceof XmlElement && localName(child) === name,
  );
}
