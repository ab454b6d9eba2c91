/**
 * A network device as rtnetlink describes it, decoded from one RTM_NEWLINK or RTM_DELLINK.
 *
 * A Link is a snapshot: everything but the ifindex may have changed since, above all the name, which udev changes while
 * a VF comes up. Attributes: include/uapi/linux/if_link.h.
 */
import { formatMac } from '../net/mac.ts';
import { Attributes, viewOf } from './netlink.ts';

export interface LinkStatistics {
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxErrors: number;
  readonly txErrors: number;
  readonly rxDropped: number;
  readonly txDropped: number;
  /** The device had no buffer for them. */
  readonly rxMissed: number;
}

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  readonly altNames: string[];
  /** A text for people; '' if none is set. */
  readonly alias: string;
  /** `IFF` bits. */
  readonly flags: number;
  /** ARPHRD_*: 1 is Ethernet. */
  readonly type: number;
  readonly mtu: number;
  /** The range that the driver takes. Both are 0 if the kernel does not report it, the upper one also without a limit. */
  readonly minMtu: number;
  readonly maxMtu: number;
  /** 'aa:bb:cc:dd:ee:ff', lower case; '' if the device has none. */
  readonly address: string;
  /** The address it was made with; '' if the kernel (before 5.6) or the driver does not report it. */
  readonly permanentAddress: string;
  /** ifindex of the device above (a NetVSC, a bridge, a bond), or 0. */
  readonly master: number;
  /** IFLA_LINK: the other end of a veth, the device below a VLAN, or 0. */
  readonly peer: number;
  /** 'veth', 'bridge', 'vlan' …; '' for hardware, including NetVSC. */
  readonly kind: string;
  readonly carrier: boolean;
  /** RFC 2863: 6 is up. */
  readonly operstate: number;
  readonly numTxQueues: number;
  readonly numRxQueues: number;
  readonly txQueueLength: number;
  /** Id of the attached XDP program, or 0. */
  readonly xdpProgram: number;
  /** 0 is none, 1 native, 2 generic, 3 offloaded, 4 several. */
  readonly xdpMode: number;
  /** 'vmbus', 'pci' …; '' for virtual devices and on kernels before 5.14. */
  readonly parentBus: string;
  /** The device's name on that bus: an instance GUID, a PCI address. */
  readonly parentDevice: string;
  /** The driver's name for its port: 'p0', 'pf0vf1', 'sby'…; '' if it gives none. */
  readonly physicalPort: string;
  /** Number of users that have asked for promiscuous mode. */
  readonly promiscuity: number;
  readonly statistics?: LinkStatistics;
}

/** ifi_flags: include/uapi/linux/if.h. */
export const IFF = {
  UP: 0x1,
  BROADCAST: 0x2,
  LOOPBACK: 0x8,
  POINTOPOINT: 0x10,
  RUNNING: 0x40,
  NOARP: 0x80,
  PROMISC: 0x100,
  ALLMULTI: 0x200,
  MASTER: 0x400,
  SLAVE: 0x800,
  MULTICAST: 0x1000,
  LOWER_UP: 0x10000,
} as const;

export const ARPHRD_ETHER = 1;

/** Bytes of struct ifinfomsg. */
export const IFINFOMSG = 16;

/** IFLA_* */
export const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  TXQLEN: 13,
  OPERSTATE: 16,
  LINKINFO: 18,
  IFALIAS: 20,
  STATS64: 23,
  AF_SPEC: 26,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  PROMISCUITY: 30,
  NUM_TX_QUEUES: 31,
  NUM_RX_QUEUES: 32,
  CARRIER: 33,
  PHYS_PORT_NAME: 38,
  XDP: 43,
  MIN_MTU: 50,
  MAX_MTU: 51,
  PROP_LIST: 52,
  ALT_IFNAME: 53,
  PERM_ADDRESS: 54,
  PARENT_DEV_NAME: 56,
  PARENT_DEV_BUS_NAME: 57,
} as const;

const IFLA_INFO_KIND = 1;
const XDP_ATTACHED = 2;
const XDP_PROGRAM_IDS = [4, 5, 6]; // of the only program; of several: the native one, the generic one

/** `undefined` if the message is cut short, or describes a bridge port and not the device. */
export function parseLink(payload: Uint8Array): Link | undefined {
  if (payload.length < IFINFOMSG) return undefined;
  const view = viewOf(payload);
  if (view.getUint8(0) !== 0) return undefined;
  const a = new Attributes(payload, IFINFOMSG);
  const flags = view.getUint32(8, true);
  const xdp = a.nested(IFLA.XDP);
  const ids = XDP_PROGRAM_IDS.map((type) => xdp.u32(type));
  const statistics = parseStatistics(a.get(IFLA.STATS64));
  return {
    ifindex: view.getInt32(4, true),
    name: a.string(IFLA.IFNAME),
    altNames: a.nested(IFLA.PROP_LIST).strings(IFLA.ALT_IFNAME),
    alias: a.string(IFLA.IFALIAS),
    flags,
    type: view.getUint16(2, true),
    mtu: a.u32(IFLA.MTU),
    minMtu: a.u32(IFLA.MIN_MTU),
    maxMtu: a.u32(IFLA.MAX_MTU),
    address: formatMac(a.get(IFLA.ADDRESS)),
    permanentAddress: formatMac(a.get(IFLA.PERM_ADDRESS)),
    master: a.u32(IFLA.MASTER),
    peer: a.u32(IFLA.LINK),
    kind: a.nested(IFLA.LINKINFO).string(IFLA_INFO_KIND),
    carrier: a.has(IFLA.CARRIER) ? a.u8(IFLA.CARRIER) === 1 : (flags & IFF.LOWER_UP) !== 0,
    operstate: a.u8(IFLA.OPERSTATE),
    numTxQueues: a.u32(IFLA.NUM_TX_QUEUES, 1),
    numRxQueues: a.u32(IFLA.NUM_RX_QUEUES, 1),
    txQueueLength: a.u32(IFLA.TXQLEN),
    xdpProgram: ids.find((id) => id !== 0) ?? 0,
    xdpMode: xdp.u8(XDP_ATTACHED),
    parentBus: a.string(IFLA.PARENT_DEV_BUS_NAME),
    parentDevice: a.string(IFLA.PARENT_DEV_NAME),
    physicalPort: a.string(IFLA.PHYS_PORT_NAME),
    promiscuity: a.u32(IFLA.PROMISCUITY),
    ...(statistics ? { statistics } : {}),
  };
}

/** The fields of struct rtnl_link_stats64, in their order. Older kernels have fewer. */
const COUNTERS = [
  ...[
    'rx_packets',
    'tx_packets',
    'rx_bytes',
    'tx_bytes',
    'rx_errors',
    'tx_errors',
    'rx_dropped',
    'tx_dropped',
  ],
  ...['multicast', 'collisions', 'rx_length_errors', 'rx_over_errors', 'rx_crc_errors', 'rx_frame_errors'],
  ...['rx_fifo_errors', 'rx_missed_errors', 'tx_aborted_errors', 'tx_carrier_errors', 'tx_fifo_errors'],
  ...['tx_heartbeat_errors', 'tx_window_errors', 'rx_compressed', 'tx_compressed', 'rx_nohandler'],
  'rx_otherhost_dropped',
];

/** Every counter that the kernel has of a link, by the kernel's name; `undefined` if the message has none. */
export function parseCounters(payload: Uint8Array): Record<string, number> | undefined {
  const value = new Attributes(payload, IFINFOMSG).get(IFLA.STATS64);
  if (value === undefined) return undefined;
  const view = viewOf(value);
  const known = COUNTERS.slice(0, value.length >> 3);
  return Object.fromEntries(known.map((name, i) => [name, Number(view.getBigUint64(i * 8, true))]));
}

/** struct rtnl_link_stats64: packets, bytes, errors and dropped, each receive first; then causes of receive errors. */
function parseStatistics(value: Uint8Array | undefined): LinkStatistics | undefined {
  if (!value || value.length < 128) return undefined;
  const view = viewOf(value);
  const word = (index: number): number => Number(view.getBigUint64(index * 8, true));
  return {
    rxPackets: word(0),
    txPackets: word(1),
    rxErrors: word(4),
    txErrors: word(5),
    rxDropped: word(6),
    txDropped: word(7),
    rxMissed: word(15),
  };
}
