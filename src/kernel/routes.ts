/**
 * Addresses and default routes as rtnetlink describes them. They show whether the machine itself uses a device.
 *
 * Every message is decoded, however long the tables are: a management device that is missed here could be taken from the
 * machine. Pure decoding; any thread. Formats: include/uapi/linux/if_addr.h, rtnetlink.h, nexthop.h.
 */
import { Attributes, type Message, viewOf } from './netlink.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

/** Bytes of struct ifaddrmsg, rtmsg, nhmsg. */
export const IFADDRMSG = 8;
export const RTMSG = 12;
export const NHMSG = 8;

export interface InterfaceAddress {
  readonly ifindex: number;
  /** 2 is AF_INET, 10 AF_INET6. */
  readonly family: number;
  /** Without prefix length: '10.0.0.4', 'fe80::1'. */
  readonly address: string;
  /** 0 is global, 253 link, 254 host. */
  readonly scope: number;
}

/** The links of a default route, or the id of a nexthop object if the route names only that. */
export interface DefaultRoute {
  readonly links: number[];
  readonly nexthop: number;
}

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;

const RTA_OIF = 4;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_NH_ID = 30;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
const RTNEXTHOP = 8;

const NHA_ID = 1;
const NHA_GROUP = 2;
const NHA_OIF = 5;
const NEXTHOP_GRP = 8;

export function parseAddress(payload: Uint8Array): InterfaceAddress | undefined {
  if (payload.length < IFADDRMSG) return undefined;
  const view = viewOf(payload);
  const attributes = new Attributes(payload, IFADDRMSG);
  // On a point-to-point link IFA_ADDRESS is the far end and IFA_LOCAL the near one.
  const value = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  if (!value || (value.length !== 4 && value.length !== 16)) return undefined;
  return {
    ifindex: view.getUint32(4, true),
    family: view.getUint8(0),
    address: formatIp(value),
    scope: view.getUint8(3),
  };
}

/** `undefined` for a route that is not a default route of the main table. */
export function parseDefaultRoute(payload: Uint8Array): DefaultRoute | undefined {
  if (payload.length < RTMSG) return undefined;
  const attributes = new Attributes(payload, RTMSG);
  const table = attributes.u32(RTA_TABLE, payload[4]);
  if (payload[1] !== 0 || table !== RT_TABLE_MAIN || payload[7] !== RTN_UNICAST) return undefined;
  const links = attributes.has(RTA_OIF) ? [attributes.u32(RTA_OIF)] : [];
  links.push(...hops(attributes.get(RTA_MULTIPATH)));
  return { links, nexthop: attributes.u32(RTA_NH_ID) };
}

/** The links of one nexthop object, from a dump of all objects. Groups are followed one level, as in the kernel. */
export function nexthopLinks(id: number, nexthops: readonly Message[]): number[] {
  const byId = new Map(
    nexthops.map(({ payload }) => {
      const attributes = new Attributes(payload, NHMSG);
      return [attributes.u32(NHA_ID), attributes];
    }),
  );
  const group = byId.get(id)?.get(NHA_GROUP);
  const members = [id];
  if (group) {
    const view = viewOf(group);
    for (let at = 0; at + NEXTHOP_GRP <= group.length; at += NEXTHOP_GRP)
      members.push(view.getUint32(at, true));
  }
  return members.map((member) => byId.get(member)?.u32(NHA_OIF) ?? 0).filter((ifindex) => ifindex !== 0);
}

function hops(value: Uint8Array | undefined): number[] {
  if (!value) return [];
  const view = viewOf(value);
  const found: number[] = [];
  for (let at = 0; at + RTNEXTHOP <= value.length; ) {
    const length = view.getUint16(at, true);
    if (length < RTNEXTHOP) break;
    found.push(view.getInt32(at + 4, true));
    at += (length + 3) & ~3;
  }
  return found;
}

/** IPv6 in the URL parser's form: compressed and lower case. */
function formatIp(value: Uint8Array): string {
  if (value.length === 4) return value.join('.');
  const view = viewOf(value);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(i * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
