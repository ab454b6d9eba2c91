/**
 * Numbers of the pcapng format, draft-ietf-opsawg-pcapng. A file is a list of blocks. Each begins with its type and its
 * length, and ends with its length again; its fixed fields are followed by options, each of a code, a length, and a value that
 * is padded to 32 bits.
 */

/** Types of blocks. */
export const BlockType = {
  SECTION_HEADER: 0x0a0d0d0a,
  INTERFACE_DESCRIPTION: 1,
  SIMPLE_PACKET: 3,
  INTERFACE_STATISTICS: 5,
  ENHANCED_PACKET: 6,
} as const;

/** The first word of a section header's body: read in the wrong byte order it is another number. */
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Version of the format. */
export const MAJOR = 1;
export const MINOR = 0;

/** Of every kind of block. */
export const OPTION_END = 0;
export const OPTION_COMMENT = 1;

export const SectionOption = { HARDWARE: 2, OS: 3, APPLICATION: 4 } as const;

export const InterfaceOption = {
  NAME: 2,
  DESCRIPTION: 3,
  MAC: 6,
  SPEED: 8,
  TIME_RESOLUTION: 9,
  FILTER: 11,
  TIME_OFFSET: 14,
} as const;

export const PacketOption = { FLAGS: 2, HASH: 3, DROP_COUNT: 4, ID: 5, QUEUE: 6, VERDICT: 7 } as const;

export const StatisticsOption = {
  START: 2,
  END: 3,
  RECEIVED: 4,
  DROPPED: 5,
  ACCEPTED: 6,
  OS_DROPPED: 7,
  DELIVERED: 8,
} as const;

/** Direction of a packet: bits 0 and 1 of its flags. */
export const Direction = { UNKNOWN: 0, INBOUND: 1, OUTBOUND: 2 } as const;

/** What a verdict's first byte says of the rest. */
export const VerdictType = { HARDWARE: 0, TC: 1, XDP: 2 } as const;

/** Values of an XDP verdict: `enum xdp_action` in include/uapi/linux/bpf.h. */
export const XdpAction = { ABORTED: 0, DROP: 1, PASS: 2, TX: 3, REDIRECT: 4 } as const;

/** LINKTYPE_ETHERNET. */
export const ETHERNET = 1;

/** Time stamps in units of 10^-9 s, as the option says. */
export const NANOSECONDS = 9;

/** Bytes up to the next multiple of four. */
export const padded = (bytes: number): number => (bytes + 3) & ~3;
