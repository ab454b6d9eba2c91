/**
 * Instructions that write metadata before a packet: memory/metadata.ts has the layout. For the XDP program of a VF and for the tc
 * program of a NetVSC. Context offsets: `struct xdp_md` and `struct __sk_buff` in include/uapi/linux/bpf.h.
 *
 * In XDP the time and the hash come from the driver, through kernel functions that only a program for this one device may
 * call (Documentation/networking/xdp-rx-metadata.rst, Linux 6.3). There is none for the checksum's status. A tc program
 * finds in the sk_buff what the driver put there: hash, time, and whether it verified the checksum.
 */
import {
  MAX_RULE_NUMBER,
  METADATA_BYTES,
  METADATA_MARK,
  METADATA_VERIFIED,
  MetadataField,
} from '../memory/metadata.ts';
import { EtherType } from '../net/ethernet.ts';
import { type Assembler, htons } from './assembler.ts';
import { XDP_PACKET } from './platform.ts';

/** Helper numbers. */
const SKB_STORE_BYTES = 9;
const VLAN_PUSH = 18;
const SKB_CHANGE_HEAD = 43;
const XDP_ADJUST_META = 54;
const CSUM_LEVEL = 135;

/** `struct xdp_md` */
const XDP_DATA_META = 8;
/** `struct __sk_buff` */
const SKB_LENGTH = 0;
const SKB_VLAN_PRESENT = 20;
const SKB_HASH = 68;
const GSO_SIZE = 176;
/** Linux 5.16. */
const SKB_HWTSTAMP = 184;

/** The metadata on the stack, whose words of 64 bits are aligned, and the type of a hash, which is not used. */
const STACK = -24;
const HASH_TYPE = STACK - 8;
/** Bytes before a tag of the tap, and of the tag. */
const BEFORE_TAG = MetadataField.TAG;
const TAG_BYTES = 4;

/**
 * Bytes of the longest packet that gets metadata, unless the kernel segments it on its way: bpf_skb_change_head makes no longer
 * one (BPF_SKB_MAX_LEN in net/core/filter.c, 16 KiB without the end of the buffer, with pages of 4 KiB). Only a device that merges
 * packets delivers longer ones. They get this tag in place of metadata and the long tag; its lowest bit says whether the
 * device has verified the checksum.
 */
export const MAX_WITH_METADATA = 16_000;
export const BARE_TAG = 0x7458;

/** Ids of the kernel's functions; 0: not to be called. */
export interface XdpFunctions {
  readonly time: number;
  readonly hash: number;
}
export const XDP_FUNCTIONS = {
  time: 'bpf_xdp_metadata_rx_timestamp',
  hash: 'bpf_xdp_metadata_rx_hash',
} as const;

/**
 * The tag (802.1ad) of a packet that had a tag outside its bytes. The tap inserts such a tag behind the first 12 bytes of what it
 * brings (tun_put_user in drivers/net/tun.c), which are those of the metadata. So the program puts a tag of its own in front, the
 * kernel then writes the packet's tag to its bytes, and the metadata have room for the program's. So has the long tag.
 */
export const PREFIX_TAG = 0x7455;

/**
 * For XDP. In: the context in register 6; if the packet has passed rules, the number of counter of the deciding rule in register 8.
 * Out: the same in registers 6 and 8. A packet whose driver has no room for metadata has none.
 *
 * @param rules how many there are; 0: register 8 has nothing
 */
export function writeXdpMetadata(program: Assembler, { time, hash }: XdpFunctions, rules: number): Assembler {
  clearStack(program);
  if (time > 0) callReader(program, time, MetadataField.TIME);
  if (hash > 0) callReader(program, hash, MetadataField.HASH);
  writeMark(program, rules);
  program
    .mov(1, 6)
    .movImm(2, -METADATA_BYTES)
    .call(XDP_ADJUST_META)
    .jneImm(0, 0, 'no room')
    .loadW(2, 6, XDP_DATA_META)
    .loadW(3, 6, XDP_PACKET.data)
    .mov(4, 2)
    .aluImm('add', 4, METADATA_BYTES)
    .jumpIf('jgt', 4, 3, 'no room');
  for (const at of [0, 8]) program.loadDW(4, 10, STACK + at).storeDW(2, 4, at);
  return program
    .loadW(4, 10, STACK + MetadataField.MARK)
    .storeW(2, 4, MetadataField.MARK)
    .label('no room');
}

/**
 * For XDP, after the redirect, with its result in register 0 and the context in register 6: takes the metadata from a packet that the
 * kernel gets after all. GRO does not merge packets whose metadata differ (skb_metadata_differs). Register 0 stays.
 */
export function removeXdpMetadata(program: Assembler, pass: number): Assembler {
  return program
    .jneImm(0, pass, 'redirected')
    .mov(1, 6)
    .movImm(2, METADATA_BYTES)
    .call(XDP_ADJUST_META)
    .movImm(0, pass)
    .label('redirected');
}

/** Has a kernel function write its result to the stack. A failure leaves 0. */
function callReader(program: Assembler, id: number, field: number): void {
  const label = `read ${field}`;
  program
    .mov(1, 6)
    .mov(2, 10)
    .aluImm('add', 2, STACK + field);
  if (field === MetadataField.HASH) program.mov(3, 10).aluImm('add', 3, HASH_TYPE);
  program.callKernel(id).jeqImm(0, 0, label).movImm(1, 0);
  if (field === MetadataField.TIME) program.storeDW(10, 1, STACK + field);
  else program.storeW(10, 1, STACK + field);
  program.label(label);
}

/**
 * For tc at a hook of received packets, first part: gathers the metadata on the stack. In and out as for {@link writeXdpMetadata}; it
 * overwrites registers 0 to 5.
 */
export function gatherSkbMetadata(program: Assembler, rules: number): Assembler {
  clearStack(program);
  writeMark(program, rules);
  return program
    .loadDW(1, 6, SKB_HWTSTAMP)
    .storeDW(10, 1, STACK + MetadataField.TIME)
    .loadW(1, 6, SKB_HASH)
    .storeW(10, 1, STACK + MetadataField.HASH)
    .mov(1, 6)
    .movImm(2, 0) // BPF_CSUM_LEVEL_QUERY: negative unless it is CHECKSUM_UNNECESSARY
    .call(CSUM_LEVEL)
    .jumpIf32Imm('jslt', 0, 0, 'not verified')
    .loadW(1, 10, STACK + MetadataField.MARK)
    .aluImm('add', 1, METADATA_VERIFIED)
    .storeW(10, 1, STACK + MetadataField.MARK)
    .label('not verified');
}

/**
 * Between the parts: jumps to `ready` with a packet that is too long for metadata and has its tag. In: the packet in register 6.
 * Out: the same.
 */
export function tagBare(program: Assembler, ready: string, drop: string): Assembler {
  return program
    .loadW(2, 6, SKB_LENGTH)
    .jumpIfImm('jle', 2, MAX_WITH_METADATA, 'has room')
    .loadW(2, 6, GSO_SIZE)
    .jneImm(2, 0, 'has room')
    .loadW(3, 10, STACK + MetadataField.MARK)
    .aluImm('and', 3, METADATA_VERIFIED)
    .aluImm('add', 3, BARE_TAG)
    .mov(1, 6)
    .movImm(2, htons(EtherType.SERVICE_VLAN))
    .call(VLAN_PUSH)
    .jneImm(0, 0, drop)
    .jump(ready)
    .label('has room');
}

/**
 * Second part: puts them before the packet. In: the packet in register 6; 1 in register 8 if it has the long tag outside its bytes. Out:
 * the packet in register 6. If memory is short, the packet is dropped: its reader expects the prefix.
 */
export function prependSkbMetadata(program: Assembler, drop: string): Assembler {
  return program
    .movImm(7, METADATA_BYTES - TAG_BYTES)
    .jeqImm(8, 1, 'outside')
    .movImm(7, METADATA_BYTES)
    .loadW(1, 6, SKB_VLAN_PRESENT)
    .jeqImm(1, 0, 'outside')
    .mov(1, 6)
    .movImm(2, htons(EtherType.SERVICE_VLAN))
    .movImm(3, PREFIX_TAG)
    .call(VLAN_PUSH)
    .jneImm(0, 0, drop)
    .movImm(7, METADATA_BYTES - TAG_BYTES)
    .label('outside')
    .mov(1, 6)
    .mov(2, 7)
    .movImm(3, 0)
    .call(SKB_CHANGE_HEAD)
    .jneImm(0, 0, drop)
    .movImm(2, 0)
    .mov(3, 10)
    .aluImm('add', 3, STACK)
    .movImm(4, BEFORE_TAG)
    .mov(1, 6)
    .movImm(5, 0)
    .call(SKB_STORE_BYTES)
    .jneImm(0, 0, drop)
    .mov(2, 7)
    .aluImm('sub', 2, METADATA_BYTES - MetadataField.MARK)
    .mov(3, 10)
    .aluImm('add', 3, STACK + MetadataField.MARK)
    .movImm(4, METADATA_BYTES - MetadataField.MARK)
    .mov(1, 6)
    .movImm(5, 0)
    .call(SKB_STORE_BYTES)
    .jneImm(0, 0, drop);
}

function clearStack(program: Assembler): void {
  program
    .movImm(1, 0)
    .storeDW(10, 1, STACK)
    .storeDW(10, 1, STACK + 8)
    .storeDW(10, 1, HASH_TYPE);
}

/** Mark and rule as one little-endian word. The counters after the rules' are those of packets that no rule decides about. */
function writeMark(program: Assembler, rules: number): void {
  program.movImm(2, METADATA_MARK);
  const most = Math.min(rules, MAX_RULE_NUMBER);
  if (most > 0) {
    program
      .jumpIfImm('jge', 8, most, 'no rule')
      .mov(3, 8)
      .aluImm('add', 3, 1)
      .aluImm('lsh', 3, 16)
      .alu('add', 2, 3)
      .label('no rule');
  }
  program.storeW(10, 2, STACK + MetadataField.MARK);
}
