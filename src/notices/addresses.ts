import { lookup as resolveName } from 'node:dns';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Whether an address (IPv4 or IPv6 text) is one of the public Internet. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  // An IPv4 address that is dressed as an IPv6 one is judged as what it is.
  const parsed = ipaddr.process(address);
  if (parsed.range() !== 'unicast') return false;
  // Of IPv6 only 2000::/3 is given out.
  return parsed.kind() === 'ipv4' || parsed.match(ipaddr.parseCIDR('2000::/3'));
}

/** The same words whether a name is unknown or private: nobody maps our network by them. */
export const noPublicAddress = 'its name does not lead to an address of the public Internet';

/**
 * Looks a name up for a connection that is being made, and refuses private addresses there: what is
 * checked is what is connected to, whatever the name said a moment before.
 */
export const publicLookup: LookupFunction = (hostname, options, callback) => {
  resolveName(hostname, { ...options, all: true }, (error, found) => {
    const [first] = error ? [] : found;
    if (!first || !found.every(({ address }) => isPublicAddress(address))) {
      callback(new Error(noPublicAddress), '', 0);
    } else if (options.all) {
      callback(null, found);
    } else {
      callback(null, first.address, first.family);
    }
  });
};
