/**
 * Why a driver runs no native XDP, for people: what the kernel says of it, and what of the device is known to stand in the
 * way. Pure; the facts are asked for elsewhere.
 */
import { errnoName } from '../../errors.ts';

/**
 * The largest MTU with which mlx5 takes XDP (mlx5e_xdp_max_mtu) is the least of those that are known: MANA and NetVSC have
 * 3506 (MANA_XDP_MTU_MAX, NETVSC_XDP_MTU_MAX), veth about as much (veth_xdp_set).
 */
const MIN_LIMIT = 3498;

/** Features that drivers refuse XDP beside, and what `ethtool -K` calls them. */
const CLASHING = { 'rx-lro': 'lro', 'rx-gro-hw': 'rx-gro-hw' } as const;

export interface RefusalFacts {
  readonly device: string;
  /** Of the attach, negative. */
  readonly errno: number;
  /** What the kernel says; '' if nothing. */
  readonly text: string;
  readonly mtu: number;
  /** Features that are on. */
  readonly active: ReadonlySet<string>;
  /** Receive queues in use, and the most that there can be; 0 where that is not known. */
  readonly queues: number;
  readonly mostQueues: number;
}

export interface Refusal {
  /** A sentence without its end. */
  readonly why: string;
  /** Sentences; '' if nothing is known to do. */
  readonly mend: string;
}

export function refusalOf({ device, errno, text, mtu, active, queues, mostQueues }: RefusalFacts): Refusal {
  const said = text === '' ? errnoName(errno) : `${errnoName(errno)}, the kernel says "${text}"`;
  const clashing = Object.entries(CLASHING).filter(([feature]) => active.has(feature));
  const mends = [
    mtu > MIN_LIMIT ? `Lower the MTU, ${mtu} now: "ip link set ${device} mtu ${MIN_LIMIT}".` : '',
    ...clashing.map(([, name]) => `Switch ${name} off: "ethtool -K ${device} ${name} off".`),
    // ENA and gve keep a transmit queue for each receive queue's XDP (ena_xdp_legal_queue_count, gve_set_xdp).
    queues > 0 && queues * 2 > mostQueues
      ? `It uses ${queues} of ${mostQueues} channels: some drivers want half of them free, so ask for fewer queues.`
      : '',
  ];
  return { why: `native XDP was refused (${said})`, mend: mends.filter(Boolean).join(' ') };
}
