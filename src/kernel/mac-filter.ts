/**
 * The port's filter of MAC addresses as BPF instructions, for an XDP program and for one at a tc hook. Devices receive more
 * than a port asks for: a card whose table of addresses is full, or a VF that another function shares, goes promiscuous. The
 * filter leaves that to the kernel, on both paths alike, and the kernel drops it (PACKET_OTHERHOST) as it would without us.
 *
 * What it accepts is in maps, so a change takes effect between two packets and exchanges no program, which resets some cards.
 */
import type { Assembler } from './assembler.ts';
import type { SKB_PACKET, XDP_PACKET } from './platform.ts';

/** Which packets it lets through beside those to an address of its map. */
export const Accept = { ALL: 0, LISTED: 1, LISTED_AND_MULTICAST: 2 } as const;
export type Acceptance = (typeof Accept)[keyof typeof Accept];

/** Descriptors of its maps, for the programs of one path. */
export interface MacFilter {
  /** See mac-map.ts. */
  readonly addresses: number;
  /** A value map: one of {@link Accept}. */
  readonly acceptance: number;
  /** A value map: counts the packets that it leaves to the kernel. */
  readonly filtered: number;
}

/** A key of mac-map.ts: an address and two bytes of 0. */
export const MAC_KEY_BYTES = 8;
const MAC_BYTES = 6;
const MAP_LOOKUP = 1;
/** The bit of an address's first byte that makes it a group's (IEEE 802). */
const GROUP = 1;

/**
 * Appends instructions that jump to the label 'to kernel' if the packet is not for the handler, and continue if it is. The
 * context is in register 1, before and after; registers 0 and 2 to 6 are overwritten.
 */
export function filterMacs(
  program: Assembler,
  { addresses, acceptance, filtered }: MacFilter,
  packet: typeof XDP_PACKET | typeof SKB_PACKET,
): void {
  program
    .loadMapValue(2, acceptance)
    .loadW(2, 2, 0)
    .jeqImm(2, Accept.ALL, 'accepted')
    .mov(6, 1)
    .loadW(3, 6, packet.data)
    .loadW(4, 6, packet.end)
    .mov(5, 3)
    .aluImm('add', 5, MAC_BYTES)
    .jumpIf('jgt', 5, 4, 'not accepted') // never: a frame begins with an Ethernet header
    .jneImm(2, Accept.LISTED_AND_MULTICAST, 'listed only')
    .loadB(5, 3, 0)
    .jumpIfImm('jset', 5, GROUP, 'addressed')
    .label('listed only')
    .loadW(4, 3, 0)
    .loadH(5, 3, 4)
    .storeW(10, 4, -MAC_KEY_BYTES)
    .storeW(10, 5, 4 - MAC_KEY_BYTES)
    .mov(2, 10)
    .aluImm('add', 2, -MAC_KEY_BYTES)
    .loadMapFd(1, addresses)
    .call(MAP_LOOKUP)
    .jneImm(0, 0, 'addressed')
    .label('not accepted')
    .loadMapValue(1, filtered)
    .movImm(2, 1)
    .atomicAddDW(1, 2, 0)
    .jump('to kernel')
    .label('addressed')
    .mov(1, 6)
    .label('accepted');
}
