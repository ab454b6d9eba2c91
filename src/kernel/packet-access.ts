/**
 * What the parts of a packet reader share: where they put what they read, and how they read bytes of a packet. See
 * packet-reader.ts.
 */
import { MAX_EXTENSIONS } from '../net/ip.ts';
import { IPV6_BYTES } from '../net/ipv6.ts';
import type { Assembler, Register } from './assembler.ts';
import { XDP_PACKET } from './platform.ts';

export type PacketKind = 'xdp' | 'skb';

/**
 * Positions in the scratch, 32 bits each unless noted. SRC and DST are the 4 or 16 bytes of an address in network order; the
 * number of its bits is before it, as a key of an LPM trie has it. BUFFER is for bpf_skb_load_bytes.
 */
export const Field = {
  SRC: 4,
  DST: 24,
  TYPE: 40,
  /** ID of the outermost tag. */
  VLAN: 44,
  /** Of IP; 0 if it is not IP, or its lengths contradict each other. */
  VERSION: 48,
  PROTOCOL: 52,
  FROM: 56,
  TO: 60,
  /** Of TCP. */
  FLAGS: 64,
  /** 0, or 1 of a fragment that shows the header above IP, or 2 of another. */
  FRAGMENT: 68,
  /** Of the frame with all its tags. */
  BYTES: 72,
  NETWORK: 76,
  FAMILY: 80,
  /** Positions in the IP packet: of the header at hand, and of its end. */
  AT: 84,
  TOTAL: 88,
  /** Type of the header at AT. */
  NEXT: 92,
  BUFFER: 96,
} as const;
export const SCRATCH_BYTES = Field.BUFFER + IPV6_BYTES;

/** What a packet does not show: no number of a rule is as large. */
export const NONE = 0xffffffff;

/** bpf_skb_load_bytes, include/uapi/linux/bpf.h. */
const SKB_LOAD_BYTES = 26;
/** The longest extension header has 2048 bytes. */
const MAX_AT = 60 + MAX_EXTENSIONS * 2048;

/** What rules ask for. */
export interface Needs {
  readonly ports: boolean;
  readonly flags: boolean;
}

/** Where bytes of the packet are after a read: at an offset from a register. */
export interface Place {
  readonly base: Register;
  readonly at: number;
}

export class PacketAccess {
  readonly program: Assembler;
  readonly kind: PacketKind;

  constructor(program: Assembler, kind: PacketKind) {
    this.program = program;
    this.kind = kind;
  }

  /**
   * Jumps if the IP packet ends within so many bytes of the header at AT. Then register 8 is that header's position in the
   * frame. Overwrites registers 4 and 5.
   */
  requireBytes(count: number, otherwise: string): void {
    this.program
      .loadW(8, 9, Field.AT)
      .jumpIfImm('jgt', 8, MAX_AT, 'not ip') // never, but the verifier cannot know that
      .loadW(5, 9, Field.TOTAL)
      .mov(4, 8)
      .aluImm('add', 4, count)
      .jumpIf('jgt', 4, 5, otherwise)
      .alu('add', 8, 7);
  }

  /**
   * Reads bytes at a register and an offset, or jumps if the frame ends before. Overwrites registers 0 to 5; the base of the
   * place is one of them, or the scratch.
   */
  read(count: number, register: Register, offset: number, otherwise: string): Place {
    const program = this.program;
    if (this.kind === 'skb') {
      // A sk_buff may have its headers in fragments, which only the helper reads.
      program
        .mov(1, 6)
        .mov(2, register)
        .aluImm('add', 2, offset)
        .mov(3, 9)
        .aluImm('add', 3, Field.BUFFER)
        .movImm(4, count)
        .call(SKB_LOAD_BYTES)
        .jneImm(0, 0, otherwise);
      return { base: 9, at: Field.BUFFER };
    }
    program
      .loadW(2, 6, XDP_PACKET.data)
      .loadW(3, 6, XDP_PACKET.end)
      .alu('add', 2, register)
      .mov(4, 2)
      .aluImm('add', 4, offset + count)
      .jumpIf('jgt', 4, 3, otherwise);
    return { base: 2, at: offset };
  }
}
