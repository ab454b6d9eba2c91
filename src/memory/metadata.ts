/**
 * Metadata of packets: what a handler may learn from the device, and what it may order for a packet that it sends. A port
 * fills and reads only the arrays of the burst that its handler asks for.
 *
 * What the device says about a received packet travels in the packet's frame, in the {@link METADATA_BYTES} before its first byte. The
 * XDP program writes it on the VF, and the tc program at the NetVSC. So a packet that is handed to another worker keeps it.
 *
 * ```
 *   0   u64   nanoseconds of the device's clock; 0 none
 *   8   u32   hash of the device; 0 none
 *   12  u32   nothing, or a tag of the tap: see kernel/metadata-programs.ts
 *   16  u16   METADATA_MARK, with METADATA_VERIFIED
 *   18  u16   1 + index of the flow rule that gave the packet to the handler; 0 none
 * ```
 *
 * In the machine's byte order. Pure; any thread.
 */

/** The names, which are those of the burst's arrays, in the order of their bits. */
export const METADATA = ['time', 'hash', 'checksum', 'rule', 'tag', 'offload'] as const;
export type MetadataName = (typeof METADATA)[number];

/** A set of names as a number: the result of a module's `twinpath_metadata`. */
export const MetadataBit = { TIME: 1, HASH: 2, CHECKSUM: 4, RULE: 8, TAG: 16, OFFLOAD: 32 } as const;

/** Those that the device gives with a packet. */
export const RECEIVED = MetadataBit.TIME | MetadataBit.HASH | MetadataBit.CHECKSUM | MetadataBit.RULE;
/** Those with which a handler orders something. */
export const ORDERED = MetadataBit.TAG | MetadataBit.OFFLOAD;
export const ALL_METADATA = RECEIVED | ORDERED;

export const metadataBits = (names: readonly MetadataName[]): number =>
  names.reduce((bits, name) => bits | (1 << METADATA.indexOf(name)), 0);

export const metadataNames = (bits: number): MetadataName[] =>
  METADATA.filter((_, i) => (bits & (1 << i)) !== 0);

export const METADATA_BYTES = 20;
/** Bytes from its start. */
export const MetadataField = { TIME: 0, HASH: 8, TAG: 12, MARK: 16, RULE: 18 } as const;
/** The lowest bit is free. */
export const METADATA_MARK = 0x5450;
/** Bit of the mark: the device has verified the checksum. */
export const METADATA_VERIFIED = 1;

export const isMark = (mark: number): boolean => (mark & ~METADATA_VERIFIED) === METADATA_MARK;
/** The highest number of a rule that the field has. */
export const MAX_RULE_NUMBER = 0xffff;

/** Values of `burst.checksum`. */
export const ChecksumStatus = { UNKNOWN: 0, VERIFIED: 1 } as const;

/** Set in `burst.tag`: the low 16 bits are a VLAN tag's control information to insert (IEEE 802.1Q: priority, DEI, VLAN ID). */
export const TAG_ORDER = 0x10000;
