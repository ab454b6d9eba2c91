/**
 * What a network device is and can do: driver, bus address, queues, rings, MTU range, offloads, XDP. DPDK has the same as
 * rte_eth_dev_info_get.
 *
 * It asks ethtool, the family netdev and the driver, each of which takes RTNL: the kernel may hold that for seconds while a VF
 * comes or goes. Coordinator thread and command line only. What a kernel or a driver does not report is undefined or ''.
 */
import { type DriverInfo, driverInfo } from './driver-info.ts';
import type { Channels, Duplex, Features, LinkModes, Rings } from './ethtool-messages.ts';
import type { EthtoolNetlink } from './ethtool-netlink.ts';
import { IFF, type Link } from './link.ts';
import type { NetdevNetlink, XdpAbilities } from './netdev-netlink.ts';

export type { Rings } from './ethtool-messages.ts';
export type { RxMetadata, XdpAbilities } from './netdev-netlink.ts';

/** The state of a link. */
export interface LinkState {
  /** Whether the device is up and has a carrier. */
  readonly up: boolean;
  /** `undefined` without a link, and if the driver does not know it. */
  readonly speedMbps: number | undefined;
  readonly duplex: Duplex | undefined;
}

export const NO_LINK: LinkState = { up: false, speedMbps: undefined, duplex: undefined };

export function sameLink(a: LinkState, b: LinkState): boolean {
  return a.up === b.up && a.speedMbps === b.speedMbps && a.duplex === b.duplex;
}

/** An offload of the device. */
export interface Offload {
  readonly on: boolean;
  /** Whether it cannot be changed. */
  readonly fixed: boolean;
}

export interface DeviceInformation {
  readonly device: string;
  readonly mac: string;
  readonly driver: string;
  readonly firmware: string;
  /** 'pci', 'vmbus' …; '' for a virtual device. */
  readonly bus: string;
  readonly busAddress: string;
  /** `max` is undefined if the driver has no limit or does not report it. */
  readonly mtu: { readonly current: number; readonly min: number; readonly max: number | undefined };
  /** In use, and at most. */
  readonly queues: {
    readonly rx: number;
    readonly tx: number;
    readonly maxRx: number;
    readonly maxTx: number;
  };
  /** Descriptors of each queue. */
  readonly rings: Rings | undefined;
  /** Only those that the kernel knows for the device. */
  readonly offloads: Partial<Record<OffloadName, Offload>>;
  readonly xdp: XdpAbilities | undefined;
  readonly link: LinkState;
}

/**
 * Each offload, and the kernel's features that are it (netdev_features_strings in net/ethtool/common.c). One feature that is on
 * turns the offload on.
 */
const OFFLOADS = {
  rxChecksum: ['rx-checksum'],
  txChecksum: ['tx-checksum-ip-generic', 'tx-checksum-ipv4', 'tx-checksum-ipv6'],
  tso: ['tx-tcp-segmentation', 'tx-tcp6-segmentation'],
  uso: ['tx-udp-segmentation'],
  gro: ['rx-gro'],
  lro: ['rx-lro', 'rx-gro-hw'],
  rxVlan: ['rx-vlan-hw-parse'],
  txVlan: ['tx-vlan-hw-insert'],
  rxVlanFilter: ['rx-vlan-filter'],
  rxHash: ['rx-hashing'],
} as const satisfies Record<string, readonly string[]>;
export type OffloadName = keyof typeof OFFLOADS;

/** The sockets that it asks; of the same network namespace as the link. */
export interface InformationSources {
  readonly ethtool: EthtoolNetlink;
  readonly netdev: NetdevNetlink;
}

/** @throws ERR_KERNEL. A device that disappears meanwhile is described as far as that was known */
export function deviceInformation({ ethtool, netdev }: InformationSources, link: Link): DeviceInformation {
  const { ifindex } = link;
  // A kernel without ethtool netlink has none of these messages.
  const asked = ethtool.has('FEATURES_GET');
  return describeDevice(link, {
    driver: driverInfo(ethtool.shim, ifindex),
    channels: asked ? ethtool.channels(ifindex) : undefined,
    features: asked ? ethtool.features(ifindex) : undefined,
    rings: asked ? ethtool.rings(ifindex) : undefined,
    modes: asked ? ethtool.linkModes(ifindex) : undefined,
    xdp: netdev.xdpAbilities(ifindex),
  });
}

/** The kernel's answers about one device. */
export interface DeviceAnswers {
  readonly driver: DriverInfo | undefined;
  readonly channels: Channels | undefined;
  readonly features: Features | undefined;
  readonly rings: Rings | undefined;
  readonly modes: LinkModes | undefined;
  readonly xdp: XdpAbilities | undefined;
}

export function describeDevice(link: Link, answers: DeviceAnswers): DeviceInformation {
  const { driver, channels, features, rings, modes, xdp } = answers;
  return {
    device: link.name,
    mac: link.address,
    driver: driver?.driver ?? '',
    firmware: driver?.firmware ?? '',
    bus: link.parentBus,
    busAddress: link.parentDevice || (driver?.busAddress ?? ''),
    mtu: { current: link.mtu, min: link.minMtu, max: link.maxMtu || undefined },
    queues: channels
      ? {
          rx: channels.combined + channels.rx,
          tx: channels.combined + channels.tx,
          maxRx: Math.max(channels.maxCombined, channels.maxRx),
          maxTx: Math.max(channels.maxCombined, channels.maxTx),
        }
      : {
          rx: link.numRxQueues,
          tx: link.numTxQueues,
          maxRx: link.numRxQueues,
          maxTx: link.numTxQueues,
        },
    rings,
    offloads: features ? offloadsOf(features) : {},
    xdp,
    link: linkState(link, modes),
  };
}

export function linkState(link: Pick<Link, 'flags' | 'carrier'>, modes: LinkModes | undefined): LinkState {
  const up = (link.flags & IFF.UP) !== 0 && link.carrier;
  // Some drivers report the speed that they would have.
  return { up, speedMbps: up ? modes?.speedMbps : undefined, duplex: up ? modes?.duplex : undefined };
}

/** A feature that is neither on nor changeable is one that the device does not have: it counts as off and fixed. */
function offloadsOf({ active, changeable }: Features): Partial<Record<OffloadName, Offload>> {
  return Object.fromEntries(
    Object.entries(OFFLOADS).map(([name, features]) => [
      name,
      {
        on: features.some((feature) => active.has(feature)),
        fixed: !features.some((feature) => changeable.has(feature)),
      },
    ]),
  );
}
