import type { IncomingMessage } from 'node:http';
import ipaddr from 'ipaddr.js';
import { badInput } from '../errors.ts';

type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** Tells who asks: the peer, or whom proxies that are trusted name. */
export type AddressOf = (request: IncomingMessage) => string | undefined;

/** Whether an address is that of a trusted proxy. BAD_USER_INPUT for what is no address or network. */
export function trustIn(trusted: readonly string[]): (address: string) => boolean {
  const networks = trusted.map(readNetwork);
  return (text) => {
    const address = read(text);
    return address !== undefined && networks.some((network) => isWithin(address, network));
  };
}

/** The reader of addresses behind these proxies. */
export function addressReader(isTrusted: (address: string) => boolean): AddressOf {
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

/** Whom an address stands for when it is counted: who has one of IPv6 has all of its /64. */
export function networkOf(text: string | undefined): string {
  const address = text === undefined ? undefined : read(text);
  if (address === undefined) return 'an unknown address';
  if (address.kind() === 'ipv4') return address.toString();
  const parts = (address as ipaddr.IPv6).parts.slice(0, 4).map((part) => part.toString(16));
  return `${parts.join(':')}::/64`;
}
