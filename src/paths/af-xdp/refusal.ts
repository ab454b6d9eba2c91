/**
 * Why a device cannot be used, for people: its driver refuses native XDP, or another program uses it. No system calls: the
 * caller gathers the facts.
 */
import { errnoName, TwinpathError } from '../../errors.ts';

/**
 * The largest MTU with which mlx5 allows XDP (mlx5e_xdp_max_mtu), the smallest limit known: MANA and NetVSC have 3506
 * (MANA_XDP_MTU_MAX, NETVSC_XDP_MTU_MAX), veth about as much (veth_xdp_set).
 */
const MIN_LIMIT = 3498;

/** Features with which drivers refuse XDP, and their names in `ethtool -K`. */
const CLASHING = { 'rx-lro': 'lro', 'rx-gro-hw': 'rx-gro-hw' } as const;

export interface RefusalFacts {
  readonly device: string;
  /** Of the attach, negative. */
  readonly errno: number;
  /** The kernel's message; '' if none. */
  readonly text: string;
  readonly mtu: number;
  /** Features that are on. */
  readonly active: ReadonlySet<string>;
  /** Receive queues in use, and the maximum; 0 if unknown. */
  readonly queues: number;
  readonly maxQueues: number;
}

export interface Refusal {
  /** A sentence without its end. */
  readonly why: string;
  /** What a person can do, in sentences; '' if nothing is known. */
  readonly mend: string;
}

export function refusalOf({ device, errno, text, mtu, active, queues, maxQueues }: RefusalFacts): Refusal {
  const reason = text === '' ? errnoName(errno) : `${errnoName(errno)}, the kernel says "${text}"`;
  const clashing = Object.entries(CLASHING).filter(([feature]) => active.has(feature));
  const mends = [
    mtu > MIN_LIMIT ? `Lower the MTU, ${mtu} now: "ip link set ${device} mtu ${MIN_LIMIT}".` : '',
    ...clashing.map(([, name]) => `Switch ${name} off: "ethtool -K ${device} ${name} off".`),
    // ENA and gve keep a transmit queue for each receive queue's XDP (ena_xdp_legal_queue_count, gve_set_xdp).
    queues > 0 && queues * 2 > maxQueues
      ? `It uses ${queues} of ${maxQueues} channels: some drivers need half of them free, so open the port with fewer queues.`
      : '',
  ];
  return { why: `native XDP was refused (${reason})`, mend: mends.filter(Boolean).join(' ') };
}

/** @param owner the device that the other program is attached to */
export function deviceBusy(device: string, detail: string, owner = device): TwinpathError {
  return new TwinpathError('ERR_DEVICE_BUSY', {
    device,
    detail,
    hint: `Stop the program that uses it, or detach it: ip link set ${owner} xdp off.`,
  });
}
