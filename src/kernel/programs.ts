/**
 * The BPF programs that Twinpath loads.
 *
 * Pure functions, which return code for `Bpf.load`. Context offsets: `struct xdp_md` and `struct __sk_buff` in
 * include/uapi/linux/bpf.h.
 */
import { EtherType } from '../net/ethernet.ts';
import { Assembler, htons } from './assembler.ts';
import { type Classifier, classify } from './classifier.ts';
import { filterMacs, type MacFilter } from './mac-filter.ts';
import {
  gatherSkbMetadata,
  prependSkbMetadata,
  removeXdpMetadata,
  tagBare,
  writeXdpMetadata,
  type XdpFunctions,
} from './metadata-programs.ts';
import { matchPlatform, SKB_PACKET, XDP_PACKET } from './platform.ts';

/** Helper numbers, include/uapi/linux/bpf.h. */
const MAP_LOOKUP = 1;
const CLONE_REDIRECT = 13;
const VLAN_PUSH = 18;
const VLAN_POP = 19;
const REDIRECT = 23;
const REDIRECT_MAP = 51;
const CSUM_LEVEL = 135;

/** Which packets a program keeps from the handler. */
export interface FilterOptions {
  /** Does not capture the packets of platform.ts. */
  readonly protect?: boolean | undefined;
  /** Captures of the others those for the port's MAC addresses. */
  readonly macFilter?: MacFilter | undefined;
  /** Captures of the others those that these rules give to the handler. */
  readonly rules?: Classifier | undefined;
}

/** Of an XDP program. */
export interface RedirectOptions extends FilterOptions {
  /** Writes metadata before each packet, with what these functions of the kernel say. A program that calls one is bound to its device. */
  readonly metadata?: XdpFunctions | undefined;
}

const ruleCount = (rules: Classifier | undefined): number => rules?.set.rules.length ?? 0;

/** XDP's action for a packet whose receive queue has no socket: XDP_DROP, XDP_PASS. */
export const Unclaimed = { DROP: 1, PASS: 2 } as const;
/** Continue with the next program: TCX_NEXT of tcx, TC_ACT_UNSPEC of cls_bpf. */
const NEXT = -1;
/** TC_ACT_SHOT, which is TCX_DROP. */
const SHOT = 2;
/** TC_ACT_STOLEN: the program consumed the packet, and its sender sees success. */
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
 * The meaning of `skb->queue_mapping` in packets that a device has received.
 * - 'recorded': the RX queue plus one (skb_record_rx_queue), or 0 if it is not recorded. Drivers of hardware, hv_netvsc
 *   and tap do that.
 * - 'raw': the sender's TX queue, which is the receiver's RX queue too. veth leaves that value (veth_xmit since Linux
 *   5.17, commit 710ad98c363a).
 *
 * The value itself does not show which of the two it is.
 */
export type QueueMapping = 'recorded' | 'raw';

/**
 * For XDP: redirects each packet to the AF_XDP socket in the XSKMAP slot of its RX queue. If the slot is empty or the
 * queue is beyond the map, the value map `gateFd` holds the action, one of {@link Unclaimed}, and the value map
 * `countFd` counts the dropped packets. Needs Linux 5.3 (the fallback action in the flags, map values by address).
 *
 * The action is in a map so that one store changes it between two packets: exchanging the program takes RTNL.
 *
 * With `protect` the packets of platform.ts go to the kernel, then those that `macFilter` does not accept. Then `rules` decide
 * which others are redirected. With `metadata` they have metadata before them.
 *
 * NB: the fallback does not apply to a slot whose socket is dead; such packets are dropped.
 */
export function xdpRedirect(
  mapFd: number,
  gateFd: number,
  countFd: number,
  { protect = false, macFilter, rules, metadata }: RedirectOptions = {},
): Uint8Array {
  const program = new Assembler();
  if (protect) matchPlatform(program, XDP_PACKET);
  if (macFilter !== undefined) filterMacs(program, macFilter, XDP_PACKET);
  if (rules !== undefined) classify(program, rules, 'xdp').label('to handler').mov(1, 6);
  if (metadata !== undefined) writeXdpMetadata(program.mov(6, 1), metadata, ruleCount(rules)).mov(1, 6);
  program
    .loadW(2, 1, RX_QUEUE_INDEX)
    .loadMapValue(3, gateFd)
    .loadW(3, 3, 0)
    .loadMapFd(1, mapFd)
    .call(REDIRECT_MAP);
  if (metadata !== undefined) removeXdpMetadata(program, Unclaimed.PASS);
  program
    .jneImm(0, Unclaimed.DROP, 'done')
    .loadMapValue(1, countFd)
    .movImm(2, 1)
    .atomicAddDW(1, 2, 0)
    .label('done')
    .exit();
  return withExits(program, { protect, macFilter, rules }, Unclaimed.PASS, Unclaimed.DROP);
}

/**
 * For tc: transmits every packet through that device. `queue_mapping` stays, and the device picks its TX queue by it. So
 * a frame written to queue q of a tap leaves a veth or a NetVSC through TX queue q, if it has that many (skb_tx_hash,
 * netvsc_pick_tx). A device that is down drops the packets.
 */
export function tcRedirect(ifindex: number): Uint8Array {
  return new Assembler().movImm(1, ifindex).movImm(2, 0).call(REDIRECT).exit().assemble();
}

/**
 * `skb->mark` of a packet that our tap redirects to the NetVSC. Our program at the NetVSC would otherwise redirect the
 * packet back to the tap. The mark survives both redirects: skb_scrub_packet keeps it inside one namespace
 * (net/core/skbuff.c).
 *
 * That program must clear the mark, because it is the fwmark of policy routing, nftables and `SO_MARK`. A rule for
 * another mark may match ours under its mask, and sysctl fwmark_reflect would copy it to the machine's replies. It is a
 * full 32-bit number ("tWPm"): other users set a few bits, so their marks are not taken for ours.
 */
export const MARK = 0x7457506d;

/**
 * For the ingress of a tap, which sees the packets written to the tap: marks each one and redirects it to the device.
 * 'egress' transmits it, as {@link tcRedirect} does. 'ingress' delivers it as if the device had received it:
 * eth_type_trans classifies it again, so the kernel accepts a packet for the device's own MAC (PACKET_HOST).
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
 * The VLAN tag (802.1ad) that {@link tcCapture} puts in front of all others if a packet may not fit a frame. It says
 * whether a device has verified the checksum. hv_netvsc reports that for segments that its host has merged; their
 * checksum field is that of the first segment. A virtio-net header has the same information, but costs ten bytes and one
 * more copy in the kernel for every packet in both directions. The tag costs a packet that fits one comparison.
 */
export const LongTag = { TYPE: EtherType.SERVICE_VLAN, VERIFIED: 0x7457, UNVERIFIED: 0x7456 } as const;
/** In network order, for the helper. */
const LONG_TYPE = htons(LongTag.TYPE);

/** Which packets are captured, and how. Packets that are not captured go to the kernel, as without Twinpath. */
export interface CaptureOptions extends FilterOptions {
  /** Captures only packets for the device's own MAC address. */
  readonly own?: boolean;
  /**
   * A longer packet, Ethernet header included, gets a {@link LongTag}; absent: no packet does. A packet that the kernel
   * segments on its way to the tap gets none.
   */
  readonly maxPacketBytes?: number | undefined;
  /** Puts metadata before each packet, and `PREFIX_TAG` in front of a tag that is outside its bytes. Not for filters. */
  readonly metadata?: boolean | undefined;
}

/**
 * For the NetVSC: clears the mark of marked packets and leaves them to the kernel. Marks all others and redirects them to
 * the tap, which accepts only marked packets: see {@link tapFilter}. If the tap is gone, the redirect drops them.
 */
export function tcCapture(
  tap: number,
  { protect = false, macFilter, own, maxPacketBytes, rules, metadata = false }: CaptureOptions = {},
): Uint8Array {
  const program = passMarked(own);
  if (protect) matchPlatform(program, SKB_PACKET);
  if (macFilter !== undefined) filterMacs(program, macFilter, SKB_PACKET);
  if (rules !== undefined) classify(program, rules, 'skb').label('to handler').mov(1, 6);
  if (metadata) gatherSkbMetadata(program.mov(6, 1), ruleCount(rules)).mov(1, 6).movImm(8, 0);
  program.movImm(2, MARK).storeW(1, 2, SKB_MARK);
  if (metadata) tagBare(program, 'ready', 'no memory').mov(1, 6);
  if (maxPacketBytes !== undefined) tagLong(program, maxPacketBytes);
  if (metadata) prependSkbMetadata(program, 'no memory').label('ready');
  program.movImm(1, tap).movImm(2, 0).call(REDIRECT).exit();
  if (metadata) program.label('no memory').movImm(0, SHOT).exit();
  return withExits(program, { protect, macFilter, rules }, NEXT, SHOT);
}

/**
 * The same for a filter, which outlives a killed process: if the tap is gone, packets go to the kernel, with the mark
 * that they came with and without our tag. Of redirects only bpf_clone_redirect reports a missing tap; it costs a copy of
 * the sk_buff, not of the packet. If it returns a negative number, it delivered no copy, so no packet is both captured and
 * passed on.
 *
 * Rules are tried only while the tap is in the map `tapMap`, see `Bpf.presenceMap`: else they would go on dropping. Helpers
 * that ask for a device by its ifindex are reserved for GPL programs.
 *
 * @param tapMap needed with rules
 */
export function tcCaptureWhilePresent(
  tap: number,
  { protect = false, macFilter, own, maxPacketBytes, rules }: CaptureOptions = {},
  tapMap = -1,
): Uint8Array {
  const program = passMarked(own);
  if (protect) matchPlatform(program, SKB_PACKET);
  if (macFilter !== undefined) filterMacs(program, macFilter, SKB_PACKET);
  if (rules !== undefined) requireEntry(program, tapMap, 'to kernel');
  if (rules !== undefined) classify(program, rules, 'skb').label('to handler').mov(1, 6);
  if (protect || (macFilter ?? rules) !== undefined) program.loadW(2, 1, SKB_MARK);
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
  return withExits(program, { protect, macFilter, rules }, NEXT, SHOT);
}

/** Jumps if the map has no entry of index 0. The packet is in register 1, before and after; all others but 7 to 9 are overwritten. */
function requireEntry(program: Assembler, map: number, otherwise: string): void {
  program
    .mov(6, 1)
    .movImm(2, 0)
    .storeW(10, 2, -4)
    .mov(2, 10)
    .aluImm('add', 2, -4)
    .loadMapFd(1, map)
    .call(MAP_LOOKUP)
    .jeqImm(0, 0, otherwise)
    .mov(1, 6);
}

/** Appends the exits for packets that are not captured. */
function withExits(
  program: Assembler,
  { protect, macFilter, rules }: FilterOptions,
  pass: number,
  drop: number,
): Uint8Array {
  if (rules !== undefined) program.label('to drop').movImm(0, drop).exit();
  if ((macFilter ?? rules) !== undefined) program.label('to kernel');
  if (protect) program.label('protected');
  if (protect || (macFilter ?? rules) !== undefined) program.movImm(0, pass).exit();
  return program.assemble();
}

/**
 * Tags a long packet. In: the packet in register 1. Out: the packet in register 6; register 8 is 1 if it has the tag.
 * If memory for the tag is short, the packet stays untagged, which counts as unverified.
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

/** Exits for packets that are not captured. For others it continues, with the packet in register 1 and its mark in 2. */
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
 * For TUNSETSTEERINGEBPF: a packet that the NetVSC received on its queue q goes to queue q of the tap, modulo the tap's
 * queues. So the spread over the NetVSC's queues (by the host's RSS, in a lab by the sender) applies here too. `mapping`
 * is 'raw' if the NetVSC is a veth, or a bridge over veths.
 *
 * A packet without a recorded queue goes by the hash that came with it; without a hash, to queue 0. Without this program
 * the tap would spread flows by its own hash (tun_automq_select_queue). The tap holds a reference to the program, so its
 * descriptor may be closed after the ioctl.
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
 * For TUNSETFILTEREBPF: the tap accepts the packets that {@link tcCapture} has captured, and drops packets that other
 * programs of the machine send through the tap device: those come neither from the network nor through the NetVSC. The
 * tap holds a reference to the program.
 */
export function tapFilter(): Uint8Array {
  return new Assembler()
    .loadW(2, 1, SKB_MARK)
    .movImm(0, -1) // accepts all bytes
    .jeqImm(2, MARK, 'captured')
    .movImm(0, 0)
    .label('captured')
    .exit()
    .assemble();
}
