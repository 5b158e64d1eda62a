import type { IncomingMessage } from 'node:http';
import ipaddr from 'ipaddr.js';
import { badInput } from '../errors.ts';

type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** Tells who asks: the peer, or whom proxies that are trusted name. */
export type AddressOf = (request: IncomingMessage) => string | undefined;

/** The reader of addresses for these proxies. BAD_USER_INPUT for what is no address or network. */
export function addressReader(trusted: readonly string[]): AddressOf {
  const networks = trusted.map(readNetwork);
  const isTrusted = (text: string) => {
    const address = read(text);
    return address !== undefined && networks.some((network) => isWithin(address, network));
  };
  return (request) => {
    const peer = request.socket.remoteAddress;
    const named = [request.headers['x-forwarded-for'] ?? []]
      .flat()
      .flatMap((line) => line.split(','))
      .map((text) => text.trim().replace(/^\[([^\]]*)\](:\d+)?$/, '$1'));
    let at = peer;
    // From our side outwards: what stands before the first that is not trusted, anybody may have written.
    for (const before of named.toReversed()) {
      if (at === undefined || !isTrusted(at)) break;
      if (read(before) === undefined) break;
      at = before;
    }
    return at === undefined ? undefined : (read(at)?.toString() ?? at);
  };
}

function read(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  return ipaddr.isValid(text) ? ipaddr.process(text) : undefined;
}

function readNetwork(text: string): Network {
  try {
    if (text.includes('/')) return ipaddr.parseCIDR(text);
    const address = ipaddr.process(text);
    return [address, address.kind() === 'ipv4' ? 32 : 128];
  } catch {
    throw badInput('SWEEPBOOK_TRUSTED_PROXIES', text, 'an address or a network like 10.0.0.0/8');
  }
}

const isWithin = (address: ipaddr.IPv4 | ipaddr.IPv6, [network, bits]: Network) =>
  address.kind() === network.kind() && address.match(network, bits);
