/**
 * Which link is the VF of a NetVSC. Pure but for reads of sysfs; any thread.
 *
 * The kernel's own answer, IFLA_MASTER, comes first. Before the VF has joined (and in kernels' races
 * around it) equal MAC addresses decide, as they do in the kernel (netvsc_drv.c, get_netvsc_byslot).
 * Never the PCI address: one MANA function carries a netdev for each NetVSC of the machine.
 *
 * A VF's DELLINK no longer names its master: whoever needs the pairing then has remembered it.
 */
import { ARPHRD_ETHER, type Link } from '../kernel/rtnetlink.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { isNetvsc, parentOf } from './netvsc.ts';

export interface PairingRules {
  /** The NetVSC is a stand-in that the user insisted on: a virtual VF will do as well. */
  readonly forced: boolean;
  readonly sysfs: Sysfs;
  /** Links that Twinpath made or took itself: never a VF. */
  readonly ours: ReadonlySet<number>;
  /** MAC addresses that the NetVSC has had: one that is changed is not changed on both devices at once. */
  readonly addresses?: readonly string[];
  /** ifindex of the VF that it has had: it stays that under another MAC, as long as nobody else claims it. */
  readonly incumbent?: number;
}

/** Devices that stand on others, copy their MAC or have none of their own: never a VF, in no lab. */
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

/** Lower is surer. */
type Rank = 0 | 1 | 2 | 3;

export function isVfOf(netvsc: Link, candidate: Link, rules: PairingRules): boolean {
  return rank(netvsc, candidate, rules) !== undefined;
}

/** The surest candidate: by MASTER, then permanent MAC, then current MAC, then the one it has had; then the lowest ifindex. */
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
    // A bridge that stands in for a NetVSC has the synthetic leg as a port too; its MAC is another.
    if (netvsc.kind === 'bridge' && !own.includes(candidate.address)) return undefined;
    return 0;
  }
  if (candidate.master !== 0) return undefined; // it has joined somebody else
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

/** A VF whose host has not given it an address yet shows zeros. */
function known(address: string): boolean {
  return address !== '' && address !== NO_ADDRESS;
}
