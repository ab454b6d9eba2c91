/**
 * The kinds of devices that a port can be opened on. Pure except for reads of sysfs; any thread.
 *
 * | kind | the device with the machine's addresses | VF | found by itself |
 * | --- | --- | --- | --- |
 * | `netvsc` | the NetVSC | is enslaved to it, or has its MAC and is a PCI device | yes |
 * | `net_failover` | the master that the kernel makes over a virtio card with STANDBY | the same, except the standby leg | yes |
 * | `card` | the card | itself | no: `device` names it |
 * | `stand-in` | any Ethernet device | virtual devices too | no: `netvsc` names it, and `force` is set |
 *
 * All other files call the device with the addresses the NetVSC, for every kind.
 */
import { ARPHRD_ETHER, type Link } from '../kernel/rtnetlink.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { isNetvsc, parentOf } from './netvsc.ts';
import { findVf, isVfOf, type PairingRules } from './pairing.ts';

export type KindName = 'netvsc' | 'net_failover' | 'card' | 'stand-in';

/** The devices of the machine. */
export interface Machine {
  readonly links: readonly Link[];
  readonly sysfs: Sysfs;
}

/** What a port knows of its own VF and of other ports' devices: see {@link PairingRules}. */
export type PairingHistory = Omit<PairingRules, 'forced' | 'sysfs'>;

export interface Kind {
  readonly name: KindName;
  /** Whether the link is the device with the addresses, from the kernel's information alone. */
  is(link: Link, machine: Machine): boolean;
  /** Whether the candidate could be the VF of such a device. */
  mayBeVf(netvsc: Link, candidate: Link, machine: Machine, history: PairingHistory): boolean;
  /** The most certain VF among these links. */
  vf(netvsc: Link, machine: Machine, history: PairingHistory, among?: readonly Link[]): Link | undefined;
  /** A leg besides the VF whose packets the device with the addresses does not get while a VF exists. */
  standby(netvsc: Link, machine: Machine): Link | undefined;
}

const none = (): undefined => undefined;

/** The port name of a virtio card with STANDBY (drivers/net/virtio_net.c, virtnet_get_phys_port_name). */
const STANDBY_PORT = 'sby';

/** A kind whose VF pairing.ts finds. The standby leg of net_failover is not a VF. */
function pair(
  name: KindName,
  is: Kind['is'],
  { forced = false, standby = none }: { forced?: boolean; standby?: Kind['standby'] } = {},
): Kind {
  const rules = ({ sysfs }: Machine, history: PairingHistory): PairingRules => ({
    ...history,
    forced,
    sysfs,
  });
  // Also one that has just left its master.
  const isStandby = (netvsc: Link, candidate: Link, machine: Machine): boolean =>
    standby !== none &&
    (candidate.physicalPort === STANDBY_PORT || standby(netvsc, machine)?.ifindex === candidate.ifindex);
  return {
    name,
    is,
    standby,
    mayBeVf: (netvsc, candidate, machine, history) =>
      !isStandby(netvsc, candidate, machine) && isVfOf(netvsc, candidate, rules(machine, history)),
    vf(netvsc, machine, history, among = machine.links) {
      const candidates = among.filter((link) => !isStandby(netvsc, link, machine));
      return findVf(netvsc, candidates, rules(machine, history));
    },
  };
}

/**
 * The virtio card under a net_failover device: it is enslaved to it, and both have the same parent device, by which the
 * kernel itself distinguishes the two legs (drivers/net/net_failover.c, net_failover_slave_register).
 */
function standbyOf(master: Link, { links, sysfs }: Machine): Link | undefined {
  if (master.type !== ARPHRD_ETHER || master.kind !== '') return undefined;
  const legs = links.filter((link) => link.master === master.ifindex && link.physicalPort === STANDBY_PORT);
  const parent = (link: Link): string => Object.values(parentOf(link, sysfs) ?? {}).join(' ');
  return legs.find((link) => parent(link) === parent(master));
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

/** The kind of pair whose device with the addresses the link is; undefined if it is not one. */
export function kindOf(link: Link, machine: Machine): Kind | undefined {
  return [KINDS.netvsc, KINDS.net_failover].find((kind) => kind.is(link, machine));
}
