/**
 * The kinds of devices that a port is opened on, one row each. Pure but for reads of sysfs; any thread.
 *
 * | kind | the device with the machine's addresses | VF | found by itself |
 * | --- | --- | --- | --- |
 * | `netvsc` | the NetVSC | joined it, or has its MAC and hangs from PCI | yes |
 * | `net_failover` | the master that the kernel makes over a virtio card with STANDBY | the same, but for the standby leg | yes |
 * | `card` | the card | itself | no: `device` names it |
 * | `stand-in` | any Ethernet device | virtual devices too | no: `netvsc` names it, and `force` is set |
 *
 * Everywhere else the device with the addresses is called the NetVSC, whatever its kind.
 */
import { ARPHRD_ETHER, type Link } from '../kernel/rtnetlink.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { isNetvsc, parentOf } from './netvsc.ts';
import { findVf, isVfOf, type PairingRules } from './pairing.ts';

export type KindName = 'netvsc' | 'net_failover' | 'card' | 'stand-in';

/** What there is on the machine. */
export interface Machine {
  readonly links: readonly Link[];
  readonly sysfs: Sysfs;
}

/** What a port knows of its own VF and of the others: see {@link PairingRules}. */
export type Memories = Omit<PairingRules, 'forced' | 'sysfs'>;

export interface Kind {
  readonly name: KindName;
  /** Whether the link is the device with the addresses, by what the kernel says of it alone. */
  is(link: Link, machine: Machine): boolean;
  /** Whether this one could be the VF of such a device. */
  mayBeVf(netvsc: Link, candidate: Link, machine: Machine, memories: Memories): boolean;
  /** The surest of those, which may be all links or some. */
  vf(netvsc: Link, machine: Machine, memories: Memories, among?: readonly Link[]): Link | undefined;
  /** A leg beside the VF whose packets the device with the addresses does not get while there is a VF. */
  standby(netvsc: Link, machine: Machine): Link | undefined;
}

const none = (): undefined => undefined;

/** What virtio-net calls its port if it has been told to stand by (drivers/net/virtio_net.c, virtnet_get_phys_port_name). */
const STANDBY_PORT = 'sby';

/** A device and a VF that pairing.ts finds; of net_failover the standby leg is none. */
function pair(
  name: KindName,
  is: Kind['is'],
  { forced = false, standby = none }: { forced?: boolean; standby?: Kind['standby'] } = {},
): Kind {
  const rules = ({ sysfs }: Machine, memories: Memories): PairingRules => ({ ...memories, forced, sysfs });
  // One that has just left its master is one still.
  const isStandby = (netvsc: Link, candidate: Link, machine: Machine): boolean =>
    standby !== none &&
    (candidate.physicalPort === STANDBY_PORT || standby(netvsc, machine)?.ifindex === candidate.ifindex);
  return {
    ...{ name, is, standby },
    mayBeVf: (netvsc, candidate, machine, memories) =>
      !isStandby(netvsc, candidate, machine) && isVfOf(netvsc, candidate, rules(machine, memories)),
    vf(netvsc, machine, memories, among = machine.links) {
      const candidates = among.filter((link) => !isStandby(netvsc, link, machine));
      return findVf(netvsc, candidates, rules(machine, memories));
    },
  };
}

/**
 * The virtio card that a net_failover device stands on: it has joined it, and both hang from the same device, by which the
 * kernel itself tells the two legs apart (drivers/net/net_failover.c, net_failover_slave_register).
 */
function standbyOf(master: Link, { links, sysfs }: Machine): Link | undefined {
  if (master.type !== ARPHRD_ETHER || master.kind !== '') return undefined;
  const legs = links.filter((link) => link.master === master.ifindex && link.physicalPort === STANDBY_PORT);
  const place = (link: Link): string => Object.values(parentOf(link, sysfs) ?? {}).join(' ');
  return legs.find((link) => place(link) === place(master));
}

export const KINDS: Readonly<Record<KindName, Kind>> = {
  netvsc: pair('netvsc', (link, { sysfs }) => isNetvsc(link, sysfs)),
  net_failover: pair('net_failover', (link, machine) => standbyOf(link, machine) !== undefined, {
    standby: standbyOf,
  }),
  card: {
    name: 'card',
    is: () => false,
    mayBeVf: (netvsc, candidate) => candidate.ifindex === netvsc.ifindex,
    vf: (netvsc, { links }) => links.find(({ ifindex }) => ifindex === netvsc.ifindex),
    standby: none,
  },
  'stand-in': pair('stand-in', () => false, { forced: true }),
};

/** What a link is without anybody's word for it; undefined if it is the device with the addresses of no pair. */
export function kindOf(link: Link, machine: Machine): Kind | undefined {
  return [KINDS.netvsc, KINDS.net_failover].find((kind) => kind.is(link, machine));
}
