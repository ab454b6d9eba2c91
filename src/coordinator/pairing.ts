/**
 * Which link is the VF of a NetVSC. Pure except for reads of sysfs; any thread.
 *
 * The kernel's own answer, IFLA_MASTER, comes first. Before the VF is enslaved (and in the kernel's races around that) equal
 * MAC addresses decide, as they do in the kernel (netvsc_drv.c, get_netvsc_byslot). The PCI address never decides: one MANA
 * function has a netdev for each NetVSC of the machine.
 *
 * NB: a VF's DELLINK does not name its master any more. A caller that needs the pairing then has to store it.
 */
import { ARPHRD_ETHER, type Link } from '../kernel/rtnetlink.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { isNetvsc, parentOf } from './netvsc.ts';

export interface PairingRules {
  /** The NetVSC is a stand-in (option `force`): a virtual device may be its VF. */
  readonly forced: boolean;
  readonly sysfs: Sysfs;
  /** Links that this process made or took: never a VF. */
  readonly ours: ReadonlySet<number>;
  /** MAC addresses that the NetVSC has had: a new address is not set on both devices at once. */
  readonly addresses?: readonly string[];
  /** ifindex of its previous VF: with another MAC it is still the VF, unless a better candidate exists. */
  readonly incumbent?: number | undefined;
}

/** Kinds of devices that are stacked on others, copy their MAC or have no MAC: never a VF, not even in a lab. */
const NEVER = new Set(
  [
    'bareudp',
    'bond',
    'bridge',
    'dummy',
    'geneve',
    'gretap',
    'hsr',
    'ifb',
    'ip6gretap',
    'ipvlan',
    'ipvtap',
  ].concat([
    'macsec',
    'macvlan',
    'macvtap',
    'netkit',
    'nlmon',
    'team',
    'tun',
    'vlan',
    'vrf',
    'vxlan',
    'wireguard',
  ]),
);

const NO_ADDRESS = '00:00:00:00:00:00';

/** Lower is more certain. */
type Rank = 0 | 1 | 2 | 3;

export function isVfOf(netvsc: Link, candidate: Link, rules: PairingRules): boolean {
  return rank(netvsc, candidate, rules) !== undefined;
}

/** The most certain candidate: by MASTER, permanent MAC, current MAC, previous VF; among equals the lowest ifindex. */
export function findVf(netvsc: Link, links: readonly Link[], rules: PairingRules): Link | undefined {
  let best: Link | undefined;
  let bestRank: Rank = 3;
  for (const link of links) {
    const found = rank(netvsc, link, rules);
    if (found === undefined) continue;
    if (best && (found > bestRank || (found === bestRank && link.ifindex > best.ifindex))) continue;
    best = link;
    bestRank = found;
  }
  return best;
}

function rank(netvsc: Link, candidate: Link, rules: PairingRules): Rank | undefined {
  if (!eligible(netvsc, candidate, rules)) return undefined;
  const own = [netvsc.address, ...(rules.addresses ?? [])].filter(known);
  if (candidate.master === netvsc.ifindex) {
    // A bridge that stands in for a NetVSC has the synthetic leg as a port too, with another MAC.
    if (netvsc.kind === 'bridge' && !own.includes(candidate.address)) return undefined;
    return 0;
  }
  if (candidate.master !== 0) return undefined; // it is enslaved to another device
  if (!rules.forced && parentOf(candidate, rules.sysfs)?.bus !== 'pci') return undefined;
  const permanent = known(netvsc.permanentAddress) ? [netvsc.permanentAddress] : own;
  if (known(candidate.permanentAddress))
    return permanent.includes(candidate.permanentAddress) ? 1 : undefined;
  if (permanent.includes(candidate.address) || own.includes(candidate.address)) return 2;
  return candidate.ifindex === rules.incumbent ? 3 : undefined;
}

function eligible(netvsc: Link, candidate: Link, { forced, sysfs, ours }: PairingRules): boolean {
  if (candidate.ifindex === netvsc.ifindex || ours.has(candidate.ifindex)) return false;
  if (candidate.type !== ARPHRD_ETHER || NEVER.has(candidate.kind)) return false;
  if (candidate.kind !== '' && !forced) return false;
  return !isNetvsc(candidate, sysfs);
}

/** A VF has zeros until the host gives it an address. */
function known(address: string): boolean {
  return address !== '' && address !== NO_ADDRESS;
}
