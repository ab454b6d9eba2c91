/** What `twinpath doctor` looks at: reads the machine and changes nothing. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { lackingCapabilities } from '../../capabilities.ts';
import { cards, discover, type Found, takeSnapshot } from '../../coordinator/inventory.ts';
import { type DeviceInformation, deviceInformation } from '../../kernel/device-information.ts';
import { lockName } from '../../kernel/device-lock.ts';
import { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import type { Link } from '../../kernel/link.ts';
import { inNamespace } from '../../kernel/namespace.ts';
import { NetdevNetlink } from '../../kernel/netdev-netlink.ts';
import { RtNetlink } from '../../kernel/rtnetlink.ts';
import { type RuntimeFolder, runtimeFolder } from '../../kernel/runtime-folder.ts';
import { loadShim } from '../../kernel/shim.ts';
import { Sysfs } from '../../kernel/sysfs.ts';

/** Of the machine and this process. */
export interface MachineFacts {
  readonly kernel: string;
  readonly node: string;
  /** Capabilities that a port needs and this process lacks. */
  readonly lacking: readonly string[];
  readonly tun: 'usable' | 'missing' | 'refused';
  /** kernel.io_uring_disabled: 0 allowed, 1 for some, 2 for nobody; undefined before Linux 6.6. */
  readonly ioUringDisabled: number | undefined;
  /** 'none', 'integrity', 'confidentiality'; undefined without it. */
  readonly lockdown: string | undefined;
  /** net.core.bpf_jit_enable; undefined where it cannot be read. */
  readonly bpfJit: number | undefined;
  /** Bytes of memory that may be locked; Infinity without a limit. */
  readonly memlock: number;
  readonly runtime: RuntimeFolder;
}

/** Of a pair or a card. */
export interface DeviceFacts {
  readonly found: Found;
  readonly synthetic: DeviceInformation;
  readonly vf: DeviceInformation | undefined;
  /** The process whose port has it, as its lock says; undefined: none. */
  readonly holder: string | undefined;
  /** Network managers that configure its devices: 'NetworkManager', 'systemd-networkd'. */
  readonly managers: readonly { readonly manager: string; readonly device: string }[];
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

function readMachine(): MachineFacts {
  const runtime = runtimeFolder();
  const number = (path: string): number | undefined => {
    const text = textOf(path);
    return text === undefined ? undefined : Number(text);
  };
  return {
    kernel: release(),
    node: process.versions.node,
    lacking: lackingCapabilities(),
    tun: tunState(),
    ioUringDisabled: number('/proc/sys/kernel/io_uring_disabled'),
    lockdown: /\[(\w+)\]/.exec(textOf('/sys/kernel/security/lockdown') ?? '')?.[1],
    bpfJit: number('/proc/sys/net/core/bpf_jit_enable'),
    memlock: lockedBytes(textOf('/proc/self/limits') ?? ''),
    runtime,
  };
}

function readDevices(): DeviceFacts[] {
  const shim = loadShim();
  const netlink = RtNetlink.open(shim);
  const ethtool = EthtoolNetlink.open(shim);
  const netdev = NetdevNetlink.open(shim);
  try {
    const sources = { ethtool, netdev };
    const snapshot = takeSnapshot(netlink, new Sysfs());
    return [...discover(snapshot), ...cards(snapshot)].map((found) => {
      const synthetic = deviceInformation(sources, found.netvsc);
      const vf = found.kind === 'card' ? synthetic : found.vf && deviceInformation(sources, found.vf);
      const lock = netlink.link(lockName(found.netvsc.ifindex));
      const legs = [found.netvsc, found.vf].filter((link) => link !== undefined);
      return {
        ...{ found, synthetic, vf },
        holder: lock && (/, process (\d+)$/.exec(lock.alias ?? '')?.[1] ?? 'of another user'),
        managers: legs.flatMap(managersOf),
        leftFilters: lock === undefined ? ownFilters(netlink, found.netvsc.ifindex) : 0,
      };
    });
  } finally {
    for (const socket of [netlink, ethtool, netdev]) socket.close();
  }
}

function ownFilters(netlink: RtNetlink, ifindex: number): number {
  const all = (['ingress', 'egress'] as const).flatMap((where) => netlink.bpfFilters(ifindex, where));
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

function tunState(): MachineFacts['tun'] {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return 'usable';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'missing' : 'refused';
  }
}

/** From /proc/self/limits: the soft limit. */
export function lockedBytes(limits: string): number {
  const soft = /^Max locked memory +(\S+)/m.exec(limits)?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}
