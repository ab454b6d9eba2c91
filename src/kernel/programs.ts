/**
 * The BPF programs that Twinpath loads, each with the reason why it is enough.
 *
 * Pure functions: they return code for `Bpf.load` and touch nothing. Context offsets are those of
 * `struct xdp_md` and `struct __sk_buff` in include/uapi/linux/bpf.h.
 */
import { htons } from '../net/byte-order.ts';
import { EtherType } from '../net/ethernet.ts';
import { Assembler } from './assembler.ts';
import { lookForPlatform, SKB_PACKET, XDP_PACKET } from './platform.ts';

/** Helper numbers, include/uapi/linux/bpf.h. */
const CLONE_REDIRECT = 13;
const VLAN_PUSH = 18;
const VLAN_POP = 19;
const REDIRECT = 23;
const REDIRECT_MAP = 51;
const CSUM_LEVEL = 135;

/** What becomes of a packet whose receive queue has no socket: XDP_DROP, XDP_PASS. */
export const Unclaimed = { DROP: 1, PASS: 2 } as const;
/** Go on with the next program: of tcx (TCX_NEXT), and of cls_bpf (TC_ACT_UNSPEC). */
const NEXT = -1;
/** TC_ACT_STOLEN: the packet is taken, and to whoever sent it that is a success. */
const STOLEN = 4;
/** BPF_F_INGRESS of bpf_redirect. */
const INGRESS = 1;
/** `struct xdp_md` */
const RX_QUEUE_INDEX = 16;
/** `struct __sk_buff` */
const SKB_LENGTH = 0;
const PACKET_TYPE = 4;
const SKB_MARK = 8;
const QUEUE_MAPPING = 12;
const HASH = 68;
const GSO_SIZE = 176;
/** PACKET_HOST: sent to the device's own MAC address, as eth_type_trans says. */
const FOR_US = 0;

/**
 * What `skb->queue_mapping` holds for packets that a device has received. Drivers of hardware, hv_netvsc
 * and tap among them, record the RX queue plus one (skb_record_rx_queue); 0 is "not recorded". veth
 * leaves what the sender put there, the plain number of its TX queue, which is the peer's RX queue too
 * (veth_xmit since Linux 5.17, commit 710ad98c363a). The two cannot be told apart from the value.
 */
export type QueueMapping = 'recorded' | 'raw';

/**
 * For XDP: each packet goes to the AF_XDP socket in the XSKMAP slot of its RX queue. Where there is none, because
 * the slot is empty or the queue beyond the map, the value map `gateFd` says what becomes of it, one of
 * {@link Unclaimed}, and the value map `countFd` counts what was dropped. Works from Linux 5.3 on (the fallback
 * action in the flags, map values by address).
 *
 * The gate is a word of its own, so that one store opens or closes it between two packets: exchanging the program
 * takes RTNL.
 *
 * With `protect` the kernel gets those of platform.ts, as without the program.
 *
 * NB: the fallback does not hold for a slot whose socket is dead; such packets are dropped.
 */
export function xdpRedirect(mapFd: number, gateFd: number, countFd: number, protect = false): Uint8Array {
  const program = new Assembler();
  if (protect) lookForPlatform(program, XDP_PACKET);
  program
    .loadW(2, 1, RX_QUEUE_INDEX)
    .loadMapValue(3, gateFd)
    .loadW(3, 3, 0)
    .loadMapFd(1, mapFd)
    .call(REDIRECT_MAP)
    .jneImm(0, Unclaimed.DROP, 'done')
    .loadMapValue(1, countFd)
    .movImm(2, 1)
    .atomicAddDW(1, 2, 0)
    .label('done')
    .exit();
  if (protect) program.label('protected').movImm(0, Unclaimed.PASS).exit();
  return program.assemble();
}

/**
 * For tc: every packet leaves by that device's transmit side, keeping `queue_mapping`, from which the
 * device picks its TX queue. So a frame written to queue q of a tap leaves a veth or a NetVSC by TX
 * queue q, if it has that many (skb_tx_hash, netvsc_pick_tx). A device that is down drops them.
 */
export function tcRedirect(ifindex: number): Uint8Array {
  return new Assembler().movImm(1, ifindex).movImm(2, 0).call(REDIRECT).exit().assemble();
}

/**
 * `skb->mark` of a packet that a tap of ours gives to the NetVSC, from there to our program at the
 * NetVSC, which would otherwise bring it straight back up. Survives both redirects: skb_scrub_packet
 * keeps the mark inside one namespace (net/core/skbuff.c).
 *
 * That program must clear it. The mark is the fwmark of policy routing, nftables and `SO_MARK`: a rule
 * meant for somebody else's mark may match ours under its mask, and sysctl fwmark_reflect would put it on
 * the machine's answers. It is a full 32-bit number ("tWPm") because those who mark packets use few bits,
 * so that nobody's mark is taken for ours.
 */
export const MARK = 0x7457506d;

/**
 * For the ingress of a tap, that is for what is written to it: marked, and on to that device. By its
 * transmit side as {@link tcRedirect} does, or as if the device had received it: then eth_type_trans says
 * anew whom the packet is for, so that one for the device's own MAC is the kernel's (PACKET_HOST).
 */
export function tcMarkedRedirect(ifindex: number, to: 'egress' | 'ingress'): Uint8Array {
  return new Assembler()
    .movImm(2, MARK)
    .storeW(1, 2, SKB_MARK)
    .movImm(1, ifindex)
    .movImm(2, to === 'ingress' ? INGRESS : 0)
    .call(REDIRECT)
    .exit()
    .assemble();
}

/**
 * The VLAN tag (802.1ad) that {@link tcCapture} puts before all others of a packet that may not fit a frame: whether a
 * device has verified its checksum, whatever the field holds. hv_netvsc says so of segments that its host has merged, and
 * the field is that of the first of them then. A virtio-net header would say the same, of every packet and in both
 * directions, for ten bytes and a copy more in the kernel each time; this costs packets that fit one comparison.
 */
export const LongTag = { TYPE: EtherType.SERVICE_VLAN, VERIFIED: 0x7457, UNVERIFIED: 0x7456 } as const;
/** In network order, as the helper takes it. */
const LONG_TYPE = htons(LongTag.TYPE);

/** Which packets are captured, and how. */
export interface CaptureOptions {
  /** Those of platform.ts go on as they would have without us. */
  readonly protect?: boolean | undefined;
  /** Only those for the device's own MAC address; the others go on likewise. */
  readonly own?: boolean;
  /**
   * Bytes of a packet, Ethernet header included, beyond which it gets a {@link LongTag}; absent where no packet does. What
   * the kernel cuts on its way to the tap gets none.
   */
  readonly maxPacketBytes?: number | undefined;
}

/**
 * For the NetVSC: marked packets lose their mark and go on as they would have without us, all others get it and
 * leave by the transmit side of that tap, which takes no others: see {@link tapFilter}. When the tap has gone,
 * redirecting to it drops.
 */
export function tcCapture(
  tap: number,
  { protect = false, own, maxPacketBytes }: CaptureOptions = {},
): Uint8Array {
  const program = passMarked(own);
  if (protect) lookForPlatform(program, SKB_PACKET);
  program.movImm(2, MARK).storeW(1, 2, SKB_MARK);
  if (maxPacketBytes !== undefined) tagLong(program, maxPacketBytes);
  program.movImm(1, tap).movImm(2, 0).call(REDIRECT).exit();
  return withEnd(program, protect);
}

/**
 * The same for a filter, which outlives a killed process: when the tap has gone, packets go on to the
 * kernel, with the mark that they came with, and no tag of ours. bpf_clone_redirect is the one that tells; it costs a copy
 * of the sk_buff, not of the packet. A negative answer says that the copy went nowhere, so nothing is ever taken and
 * passed on as well.
 */
export function tcCaptureWhilePresent(
  tap: number,
  { protect = false, own, maxPacketBytes }: CaptureOptions = {},
): Uint8Array {
  const program = passMarked(own);
  if (protect) lookForPlatform(program, SKB_PACKET).loadW(2, 1, SKB_MARK);
  program.mov(6, 1).mov(7, 2).movImm(2, MARK).storeW(1, 2, SKB_MARK);
  if (maxPacketBytes !== undefined) tagLong(program, maxPacketBytes).mov(1, 6);
  program
    .movImm(2, tap)
    .movImm(3, 0)
    .call(CLONE_REDIRECT)
    .jumpIf32Imm('jsge', 0, 0, 'taken')
    .storeW(6, 7, SKB_MARK);
  if (maxPacketBytes !== undefined)
    program.jneImm(8, 1, 'untagged').mov(1, 6).call(VLAN_POP).label('untagged');
  program.movImm(0, NEXT).exit().label('taken').movImm(0, STOLEN).exit();
  return withEnd(program, protect);
}

/** Where a protected packet goes on. */
function withEnd(program: Assembler, protect: boolean): Uint8Array {
  if (protect) program.label('protected').movImm(0, NEXT).exit();
  return program.assemble();
}

/**
 * Tags a long packet, which is in register 1; it is in 6 afterwards, and 8 is 1 if it has the tag. If there is no memory
 * for one it goes without: as unverified.
 */
function tagLong(program: Assembler, maxPacketBytes: number): Assembler {
  return program
    .mov(6, 1)
    .movImm(8, 0)
    .loadW(2, 1, SKB_LENGTH)
    .jumpIfImm('jle', 2, maxPacketBytes, 'short')
    .loadW(2, 1, GSO_SIZE)
    .jneImm(2, 0, 'short')
    .movImm(2, 0) // BPF_CSUM_LEVEL_QUERY: negative unless it is CHECKSUM_UNNECESSARY
    .call(CSUM_LEVEL)
    .movImm(3, LongTag.VERIFIED)
    .jumpIf32Imm('jsge', 0, 0, 'verified')
    .movImm(3, LongTag.UNVERIFIED)
    .label('verified')
    .mov(1, 6)
    .movImm(2, LONG_TYPE)
    .call(VLAN_PUSH)
    .jneImm(0, 0, 'short')
    .movImm(8, 1)
    .label('short');
}

/** Ends for packets that are not captured; for others what is appended goes on: the packet is in register 1, its mark in 2. */
function passMarked(own = false): Assembler {
  const program = new Assembler();
  if (own) program.loadW(2, 1, PACKET_TYPE).jeqImm(2, FOR_US, 'own').movImm(0, NEXT).exit().label('own');
  return program
    .loadW(2, 1, SKB_MARK)
    .jneImm(2, MARK, 'unmarked')
    .movImm(2, 0)
    .storeW(1, 2, SKB_MARK)
    .movImm(0, NEXT)
    .exit()
    .label('unmarked');
}

/**
 * For TUNSETSTEERINGEBPF: a packet that the NetVSC received on its queue q goes to queue q of the tap,
 * modulo the tap's queues. So whoever spread the flows over the NetVSC's queues (the host's RSS, in a lab
 * the sender) decides here too. `mapping` is 'raw' when the NetVSC is a veth, or a bridge over veths.
 *
 * Packets without a recorded queue go by the hash that came with them, all to one queue if none did.
 * Without this program the tap would spread flows by a hash of its own (tun_automq_select_queue).
 * The tap holds the program: its descriptor may be closed after the ioctl.
 */
export function tapSteering(mapping: QueueMapping = 'recorded'): Uint8Array {
  const program = new Assembler().loadW(0, 1, QUEUE_MAPPING);
  if (mapping === 'raw') return program.exit().assemble();
  return program
    .jeqImm(0, 0, 'unrecorded')
    .aluImm('sub', 0, 1)
    .exit()
    .label('unrecorded')
    .loadW(0, 1, HASH)
    .exit()
    .assemble();
}

/**
 * For TUNSETFILTEREBPF: the tap takes what {@link tcCapture} has brought. What a program of the machine sends by
 * the tap itself, which is a device like any other to it, comes neither from the network nor from the machine's
 * stack by way of the NetVSC: it is dropped. The tap holds the program.
 */
export function tapFilter(): Uint8Array {
  return new Assembler()
    .loadW(2, 1, SKB_MARK)
    .movImm(0, -1) // all of its bytes
    .jeqImm(2, MARK, 'captured')
    .movImm(0, 0)
    .label('captured')
    .exit()
    .assemble();
}
