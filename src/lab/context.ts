/**
 * What the parts of a lab know of each other: types only, and what happened to a NIC, by name.
 */
import type { EthtoolNetlink } from '../kernel/ethtool-netlink.ts';
import type { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import type { BridgeNetlink } from './bridge.ts';

/** What the NICs of one lab share. The netlink sockets live in the namespace they are named after. */
export interface LabContext {
  readonly shim: Shim;
  readonly standIn: 'veth' | 'bridge';
  readonly queues: number;
  readonly mtu: number;
  readonly host: string;
  readonly guest: string;
  readonly guestFd: number;
  readonly hostLinks: RtNetlink;
  readonly hostBridge: BridgeNetlink;
  readonly hostEthtool: EthtoolNetlink;
  readonly guestLinks: RtNetlink;
  readonly guestBridge: BridgeNetlink;
  /** An ifindex for the host's side, unlike any in the guest. */
  nextIndex(): number;
}

export interface NicGeometry {
  /** 0, 1 …: eth0 and vf0, eth1 and vf1. */
  readonly number: number;
  readonly mac: string;
  readonly guestAddress: string;
  readonly outsideAddress: string;
  /** ifindexes in the host: the switch, the way out, and the synthetic device's end. */
  readonly bridge: number;
  readonly uplink: number;
  readonly syntheticPort: number;
}

export type NicEventKind =
  | ('plug' | 'up' | 'down' | 'delete' | 'surprise')
  | ('datapath-vf' | 'datapath-synthetic')
  | ('rename-vf' | 'rename-netvsc' | 'move-vf')
  | ('carrier-off' | 'carrier-on');

export interface NicEvent {
  readonly kind: NicEventKind;
  /** CLOCK_MONOTONIC, just before the kernel was called. */
  readonly atNanos: number;
  /** The device or port it happened to. */
  readonly device: string;
}
