/**
 * Machines for tests: links and addresses as JSON (what is not said is an idle Ethernet device's), a
 * tree that imitates /sys, and netlink dumps as this kernel sent them.
 *
 * azure/ was written by hand from Microsoft's documentation and the kernel's source. netlink/ was
 * recorded on Linux 6.18 in a namespace with a veth pair (veth0, far0) and a bridge (br0) with the ports
 * syn0 and vf0; a dump has one datagram a line. devices.json has the replies about a veth with four queues and an MTU of 1400,
 * which was up, and about a tap, which was down: payloads by message, or the errno.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Snapshot } from '../../src/coordinator/inventory.ts';
import { type Message, parseMessages } from '../../src/kernel/netlink.ts';
import type { InterfaceAddress, Link } from '../../src/kernel/rtnetlink.ts';
import { Sysfs } from '../../src/kernel/sysfs.ts';

export const azureSysfs = new Sysfs(fileURLToPath(new URL('../fixtures/azure/sys', import.meta.url)));

export function link(given: Partial<Link>): Link {
  return {
    ifindex: 100,
    name: 'net0',
    altNames: [],
    alias: '',
    flags: 0x1003,
    type: 1,
    mtu: 1500,
    minMtu: 68,
    maxMtu: 65_535,
    address: '',
    permanentAddress: '',
    master: 0,
    peer: 0,
    kind: '',
    carrier: true,
    operstate: 6,
    numTxQueues: 1,
    numRxQueues: 1,
    txQueueLength: 1000,
    xdpProgram: 0,
    xdpMode: 0,
    parentBus: '',
    parentDevice: '',
    physicalPort: '',
    promiscuity: 0,
    ...given,
  };
}

interface Recorded {
  links: Partial<Link>[];
  addresses: InterfaceAddress[];
  defaultRoutes: number[];
}

export function azure(name: 'mlx5' | 'mlx5-before-join' | 'mana'): Snapshot {
  const recorded: Recorded = JSON.parse(
    readFileSync(new URL(`../fixtures/azure/${name}.json`, import.meta.url), 'utf8'),
  );
  return { ...recorded, links: recorded.links.map(link), sysfs: azureSysfs };
}

/** The datagrams of a recorded dump. */
export function datagrams(name: 'links' | 'addresses' | 'routes'): Uint8Array[] {
  const text = readFileSync(new URL(`../fixtures/netlink/${name}.hex`, import.meta.url), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => new Uint8Array(Buffer.from(line, 'hex')));
}

export function dump(name: 'links' | 'addresses' | 'routes'): Message[] {
  return datagrams(name)
    .flatMap(parseMessages)
    .filter(({ type }) => type >= 16);
}

type Payloads = Record<string, string | number>;

/** What the kernel replied about a device: a payload or an errno. */
export function recordedReply(device: 'veth0' | 'tap0', message: string): Uint8Array | number {
  const file = new URL('../fixtures/netlink/devices.json', import.meta.url);
  const devices: Record<string, Payloads> = JSON.parse(readFileSync(file, 'utf8'));
  const reply = devices[device]?.[message];
  if (reply === undefined) throw new Error(`nothing is recorded of ${message} and ${device}`);
  return typeof reply === 'number' ? reply : new Uint8Array(Buffer.from(reply, 'hex'));
}
