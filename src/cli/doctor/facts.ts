/** What `twinpath doctor` looks at: reads the machine and changes nothing. */
import { cards, discover, type Found, takeSnapshot } from '../../coordinator/inventory.ts';
import { Bpf } from '../../kernel/bpf.ts';
import { type DeviceInformation, deviceInformation } from '../../kernel/device-information.ts';
import { type Holder, holderOf } from '../../kernel/device-lock.ts';
import { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import type { Link } from '../../kernel/link.ts';
import { inNamespace } from '../../kernel/namespace.ts';
import { NetdevNetlink } from '../../kernel/netdev-netlink.ts';
import { RtNetlink } from '../../kernel/rtnetlink.ts';
import { loadShim } from '../../kernel/shim.ts';
import { Sysfs } from '../../kernel/sysfs.ts';
import { type MachineFacts, readMachine, textOf } from '../machine.ts';

/** Of a pair or a card. */
export interface DeviceFacts {
  readonly found: Found;
  readonly synthetic: DeviceInformation;
  readonly vf: DeviceInformation | undefined;
  /** The process whose port has it; undefined: none. */
  readonly holder: Holder | undefined;
  /** Network managers that configure its devices: 'NetworkManager', 'systemd-networkd'. */
  readonly managers: readonly { readonly manager: string; readonly device: string }[];
  /** Ids of tcx programs at the NetVSC while no port has it: they are of others. Empty too where this user may not ask. */
  readonly tcxPrograms: readonly number[];
  /** tc filters of Twinpath at the NetVSC although no port has it: a killed process left them. */
  readonly leftFilters: number;
}

export interface Facts {
  readonly machine: MachineFacts;
  readonly devices: readonly DeviceFacts[];
}

/** @throws ERR_PERMISSION, ERR_KERNEL: the namespace cannot be entered, or the kernel does not answer */
export function readFacts(netns: string | undefined): Facts {
  const shim = loadShim();
  const devices = netns === undefined ? readDevices() : inNamespace(shim, netns, readDevices);
  return { machine: readMachine(), devices };
}

const DIRECTIONS = ['ingress', 'egress'] as const;

function readDevices(): DeviceFacts[] {
  const shim = loadShim();
  const bpf = new Bpf(shim);
  const netlink = RtNetlink.open(shim);
  const ethtool = EthtoolNetlink.open(shim);
  const netdev = NetdevNetlink.open(shim);
  try {
    const sources = { ethtool, netdev };
    const snapshot = takeSnapshot(netlink, new Sysfs());
    return [...discover(snapshot), ...cards(snapshot)].map((found) => {
      const synthetic = deviceInformation(sources, found.netvsc);
      const vf = found.kind === 'card' ? synthetic : found.vf && deviceInformation(sources, found.vf);
      const { ifindex } = found.netvsc;
      const holder = holderOf(netlink, ifindex);
      const legs = [found.netvsc, found.vf].filter((link) => link !== undefined);
      return {
        ...{ found, synthetic, vf, holder },
        managers: legs.flatMap(managersOf),
        tcxPrograms:
          holder === undefined ? DIRECTIONS.flatMap((where) => bpf.tcxPrograms(ifindex, where)) : [],
        leftFilters: holder === undefined ? ownFilters(netlink, ifindex) : 0,
      };
    });
  } finally {
    for (const socket of [netlink, ethtool, netdev]) socket.close();
  }
}

function ownFilters(netlink: RtNetlink, ifindex: number): number {
  const all = DIRECTIONS.flatMap((where) => netlink.bpfFilters(ifindex, where));
  return all.filter(({ name }) => name.split(' ')[0] === 'twinpath').length;
}

/** Both keep a file for each device, by ifindex: NetworkManager(8), and sd-network of systemd. */
function managersOf({ ifindex, name }: Link): DeviceFacts['managers'] {
  const networkd = textOf(`/run/systemd/netif/links/${ifindex}`);
  const manager = textOf(`/run/NetworkManager/devices/${ifindex}`);
  return [
    ...(networkd !== undefined && !/^ADMIN_STATE=unmanaged$/m.test(networkd)
      ? [{ manager: 'systemd-networkd', device: name }]
      : []),
    ...(/^managed=true$/m.test(manager ?? '') ? [{ manager: 'NetworkManager', device: name }] : []),
  ];
}
