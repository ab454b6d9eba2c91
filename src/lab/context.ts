/**
 * What the NICs of a lab share: netlink sockets in the host's and in the guest's namespace, and the size of every device.
 *
 * One thread.
 */
import { TwinpathError } from '../errors.ts';
import { EthtoolNetlink } from '../kernel/ethtool-netlink.ts';
import { inNamespace, openNamespace } from '../kernel/namespace.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import { BridgeNetlink } from './devices.ts';

/** What every NIC of a lab is made like. */
export interface LabSettings {
  /** What plays NetVSC in the guest. */
  readonly standIn: 'veth' | 'bridge';
  /** Of every device. */
  readonly queues: number;
  readonly mtu: number;
}

/** A NIC of the guest, on a switch of its own. */
export interface NicGeometry {
  /** 0 for eth0 and vf0, 1 for eth1 and vf1. */
  readonly number: number;
  readonly mac: string;
  readonly guestAddress: string;
  readonly outsideAddress: string;
  /** ifindexes in the host: the switch, its port to the outside, and its port to the NetVSC stand-in. */
  readonly bridge: number;
  readonly uplink: number;
  readonly syntheticPort: number;
  /** ifindex of the NetVSC stand-in in the guest. */
  readonly netvsc: number;
}

/** A namespace, and the netlink sockets that are open in it. */
export interface LabNamespace {
  readonly name: string;
  readonly links: RtNetlink;
  readonly bridge: BridgeNetlink;
}

/**
 * Host devices are numbered from here, so that no veth has the same ifindex as its peer in another namespace. If they were
 * equal, linkwatch would take the veth for a plain device and delay its carrier changes by up to a second
 * (net/core/link_watch.c `linkwatch_urgent_event`).
 */
const FIRST_HOST_INDEX = 10_000;

export class LabContext {
  readonly shim: Shim;
  readonly settings: LabSettings;
  readonly host: LabNamespace & { readonly ethtool: EthtoolNetlink };
  /** `fd` is a descriptor of the namespace, in which the host creates devices. */
  readonly guest: LabNamespace & { readonly fd: number };
  #lastHostIndex = FIRST_HOST_INDEX;

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  constructor(shim: Shim, settings: LabSettings, host: string, guest: string) {
    this.shim = shim;
    this.settings = settings;
    const fd = openNamespace(shim, guest);
    const ethtool = inNamespace(shim, host, () => EthtoolNetlink.open(shim));
    this.host = { ...openNetlink(shim, host), ethtool };
    this.guest = { ...openNetlink(shim, guest), fd };
  }

  /** An ifindex for a device of the host that no device of the guest has. */
  nextHostIndex(): number {
    return ++this.#lastHostIndex;
  }

  /** Runs `work` with the links of a namespace, which may be another than host and guest. */
  withLinks(namespace: string, work: (links: RtNetlink) => void): void {
    const { shim, guest } = this;
    const links = namespace === guest.name ? guest.links : openLinks(shim, namespace);
    try {
      work(links);
    } finally {
      if (links !== guest.links) links.close();
    }
  }

  close(): void {
    const { host, guest } = this;
    for (const socket of [host.links, host.bridge, host.ethtool, guest.links, guest.bridge]) socket.close();
    this.shim.close(guest.fd);
  }
}

/** @throws ERR_LAB if there is no such device */
export function indexOf(links: RtNetlink, name: string): number {
  const link = links.link(name);
  if (!link) throw new TwinpathError('ERR_LAB', { device: name, detail: 'it is not where the lab put it' });
  return link.ifindex;
}

function openLinks(shim: Shim, namespace: string): RtNetlink {
  return inNamespace(shim, namespace, () => RtNetlink.open(shim));
}

function openNetlink(shim: Shim, name: string): LabNamespace {
  const bridge = inNamespace(shim, name, () => BridgeNetlink.open(shim));
  return { name, links: openLinks(shim, name), bridge };
}
