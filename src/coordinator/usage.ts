/**
 * Whether the machine itself uses a NetVSC: addresses and default routes on it, on its legs, or on devices that are stacked
 * on either (a VLAN, a bridge, a bond). Pure; any thread.
 *
 * In doubt a device is in use: a wrong "free" costs the user's own connection.
 */
import type { InterfaceAddress, Link } from '../kernel/rtnetlink.ts';

export interface Usage {
  /** All addresses except IPv6 link-local ones, which every device gets when it is up. */
  readonly addresses: string[];
  readonly defaultRoute: boolean;
  /** Completes the sentence "eth0 …"; '' if it is not in use. */
  readonly reason: string;
}

interface Tables {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly defaultRoutes: readonly number[];
}

const AF_INET6 = 10;

/** @param legs the VF and others that belong to it */
export function usageOf(tables: Tables, netvsc: Link, legs: readonly (Link | undefined)[]): Usage {
  const stack = stackOn(tables.links, [netvsc, ...legs.filter((leg) => leg !== undefined)]);
  const addresses = tables.addresses
    .filter((address) => stack.has(address.ifindex) && !isLinkLocal(address))
    .map(({ address }) => address);
  const defaultRoute = tables.defaultRoutes.some((ifindex) => stack.has(ifindex));
  return { addresses, defaultRoute, reason: reasonText(addresses, defaultRoute, tables.links, netvsc) };
}

/** The devices themselves and all devices stacked on them, at any depth. */
function stackOn(links: readonly Link[], bases: readonly Link[]): Set<number> {
  const stack = new Set(bases.map(({ ifindex }) => ifindex));
  for (let grown = true; grown; ) {
    grown = false;
    for (const link of links) {
      // The IFLA_LINK of a veth is its other end, maybe in another namespace: it is not stacked on that.
      const isStacked = link.kind !== 'veth' && stack.has(link.peer);
      if (isStacked && !stack.has(link.ifindex)) {
        stack.add(link.ifindex);
        grown = true;
      }
      if (stack.has(link.ifindex) && link.master !== 0 && !stack.has(link.master)) {
        stack.add(link.master);
        grown = true;
      }
    }
  }
  return stack;
}

function reasonText(
  addresses: readonly string[],
  defaultRoute: boolean,
  links: readonly Link[],
  netvsc: Link,
): string {
  const master = links.find(({ ifindex }) => ifindex === netvsc.master);
  const reasons = [
    defaultRoute ? 'carries a default route' : '',
    addresses.length > 0 ? `has the address ${addresses.join(', ')}` : '',
    master ? `is a port of ${master.name}` : '',
  ];
  return reasons.filter((reason) => reason !== '').join(' and ');
}

function isLinkLocal({ family, address }: InterfaceAddress): boolean {
  return family === AF_INET6 && /^fe[89ab]/.test(address);
}
