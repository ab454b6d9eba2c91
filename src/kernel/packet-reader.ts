/**
 * BPF instructions that read what flow rules ask for out of a packet, and write it to a scratch map. `Flow.read` in
 * net/flow.ts is the same in TypeScript, and has the reasons; a test compares them.
 *
 * Registers: 6 the context, 9 the scratch, 7 the position of the network header, 8 that of a later header; the others hold
 * values for a moment. What is known to the verifier at a point must not depend on the way there, or it would follow each way
 * to the program's end. So positions pass from part to part through the scratch, and each part checks their limits anew.
 */
import { ETHERNET_BYTES, EtherType, VLAN_TAG_BYTES } from '../net/ethernet.ts';
import { AUTHENTICATION } from '../net/ip.ts';
import { IPV4_BYTES, Ipv4Field } from '../net/ipv4.ts';
import { IPV6_BYTES, Ipv6Field } from '../net/ipv6.ts';
import { MAX_TAGS } from '../rules/rule.ts';
import type { Assembler, Register } from './assembler.ts';
import { kernelIsAtLeast } from './machine.ts';
import { Field, type Needs, PacketAccess, type PacketKind } from './packet-access.ts';
import { XDP_PACKET } from './platform.ts';
import { UpperReader } from './upper-reader.ts';

/** bpf_xdp_get_buff_len, include/uapi/linux/bpf.h. */
const XDP_GET_BUFF_LEN = 188;
/** `struct __sk_buff` */
const SKB_LENGTH = 0;
const SKB_VLAN_PRESENT = 20;
const SKB_VLAN_TCI = 24;

const TYPE_BYTES = 2;
const VLAN_ID = 0xfff;
const MAX_NETWORK = ETHERNET_BYTES + MAX_TAGS * VLAN_TAG_BYTES;
const MORE_OR_OFFSET = 0x3fff;
const OFFSET = 0x1fff;

/**
 * Appends the reading. In: the context in register 6, the scratch in 9. Continues behind it for every packet but those with
 * too many tags, for which it jumps to 'overtagged'.
 */
export function readPacket(program: Assembler, kind: PacketKind, needs: Needs): void {
  new PacketReader(program, kind, needs).write();
}

class PacketReader {
  readonly #access: PacketAccess;
  readonly #upper: UpperReader;
  readonly #needs: Needs;

  constructor(program: Assembler, kind: PacketKind, needs: Needs) {
    this.#access = new PacketAccess(program, kind);
    this.#upper = new UpperReader(this.#access);
    this.#needs = needs;
  }

  write(): void {
    this.#clear();
    this.#readLength();
    this.#readTags();
    this.#readIpv4();
    this.#readIpv6();
    this.#upper.readProtocol(this.#needs);
    this.#access.program
      .label('ip read')
      .loadW(2, 9, Field.FAMILY)
      .storeW(9, 2, Field.VERSION)
      .jump('packet read')
      .label('not ip')
      .movImm(2, 0)
      .storeW(9, 2, Field.FRAGMENT)
      .label('packet read');
  }

  #clear(): void {
    const { TYPE, VLAN, PROTOCOL, FROM, TO, FLAGS, VERSION, FRAGMENT } = Field;
    this.#access.program.movImm(2, -1);
    for (const field of [TYPE, VLAN, PROTOCOL, FROM, TO, FLAGS]) this.#access.program.storeW(9, 2, field);
    this.#access.program.movImm(2, 0).storeW(9, 2, VERSION).storeW(9, 2, FRAGMENT);
  }

  #readLength(): void {
    const program = this.#access.program;
    if (this.#access.kind === 'skb') program.loadW(0, 6, SKB_LENGTH);
    else if (kernelIsAtLeast(5, 18)) program.mov(1, 6).call(XDP_GET_BUFF_LEN);
    // Subtracting pointers takes CAP_PERFMON (verifier.c, allow_ptr_leaks), which nothing else here needs.
    else program.loadW(0, 6, XDP_PACKET.end).loadW(2, 6, XDP_PACKET.data).alu('sub', 0, 2);
    program.storeW(9, 0, Field.BYTES);
  }

  /** The kernel takes the outermost tag out of a received frame and keeps it in the sk_buff (skb_vlan_untag). */
  #readTags(): void {
    const program = this.#access.program;
    program.movImm(7, ETHERNET_BYTES - TYPE_BYTES);
    if (this.#access.kind === 'skb') {
      program
        .loadW(2, 6, SKB_VLAN_PRESENT)
        .jeqImm(2, 0, 'tag 0')
        .loadW(2, 6, SKB_VLAN_TCI)
        .aluImm('and', 2, VLAN_ID)
        .storeW(9, 2, Field.VLAN)
        .loadW(2, 9, Field.BYTES)
        .aluImm('add', 2, VLAN_TAG_BYTES)
        .storeW(9, 2, Field.BYTES)
        .jump('tag 1');
    }
    for (let tag = 0; tag <= MAX_TAGS; tag++) {
      program.label(`tag ${tag}`);
      const type = this.#access.read(TYPE_BYTES, 7, 0, 'packet read');
      program
        .loadH(4, type.base, type.at)
        .swapBytes(4, 16)
        .storeW(9, 4, Field.TYPE)
        .jeqImm(4, EtherType.VLAN, `in tag ${tag}`)
        .jneImm(4, EtherType.SERVICE_VLAN, 'typed')
        .label(`in tag ${tag}`);
      const rest = this.#access.read(VLAN_TAG_BYTES, 7, TYPE_BYTES, 'packet read'); // cut off: the type is that of a tag
      if (tag === 0) {
        program
          .loadH(4, rest.base, rest.at)
          .swapBytes(4, 16)
          .aluImm('and', 4, VLAN_ID)
          .storeW(9, 4, Field.VLAN);
      }
      program.aluImm('add', 7, VLAN_TAG_BYTES);
    }
    program
      .jump('overtagged')
      .label('typed')
      .aluImm('add', 7, TYPE_BYTES)
      .storeW(9, 7, Field.NETWORK)
      .loadW(7, 9, Field.NETWORK)
      .jumpIfImm('jgt', 7, MAX_NETWORK, 'packet read')
      .loadW(4, 9, Field.TYPE)
      .jeqImm(4, EtherType.IPV6, 'ipv6 header')
      .jneImm(4, EtherType.IPV4, 'packet read');
  }

  #readIpv4(): void {
    const program = this.#access.program;
    const { base, at } = this.#access.read(IPV4_BYTES, 7, 0, 'packet read');
    const { LENGTH, FRAGMENT, PROTOCOL, ADDRESSES } = Ipv4Field;
    program
      .loadB(4, base, at)
      .mov(5, 4)
      .aluImm('and', 5, 0xf0)
      .jneImm(5, 0x40, 'packet read')
      .aluImm('and', 4, 0x0f)
      .aluImm('lsh', 4, 2)
      .jumpIfImm('jlt', 4, IPV4_BYTES, 'packet read')
      .storeW(9, 4, Field.AT)
      .loadH(5, base, at + LENGTH)
      .swapBytes(5, 16)
      .jumpIf('jlt', 5, 4, 'packet read')
      .storeW(9, 5, Field.TOTAL)
      .loadB(4, base, at + PROTOCOL)
      .storeW(9, 4, Field.NEXT);
    this.#copyAddresses(base, at + ADDRESSES, 4);
    program
      .loadH(4, base, at + FRAGMENT)
      .swapBytes(4, 16)
      .aluImm('and', 4, MORE_OR_OFFSET)
      .storeW(9, 4, Field.FRAGMENT);
    this.#requireWhole();
    program
      .loadW(4, 9, Field.FRAGMENT)
      .loadW(5, 9, Field.NEXT)
      .jeqImm(4, 0, 'ipv4 walk 0')
      .movImm(2, 1)
      .storeW(9, 2, Field.FRAGMENT)
      .jeqImm(5, AUTHENTICATION, 'protocol unknown') // only the first fragment names the authenticated protocol
      .jumpIfImm('jset', 4, OFFSET, 'later fragment')
      .jump('upper');
    this.#upper.walk('ipv4');
  }

  #readIpv6(): void {
    const program = this.#access.program;
    program.label('ipv6 header');
    const { base, at } = this.#access.read(IPV6_BYTES, 7, 0, 'packet read');
    const { LENGTH, NEXT_HEADER, ADDRESSES } = Ipv6Field;
    program
      .loadB(4, base, at)
      .aluImm('and', 4, 0xf0)
      .jneImm(4, 0x60, 'packet read')
      .loadH(5, base, at + LENGTH)
      .swapBytes(5, 16)
      .aluImm('add', 5, IPV6_BYTES)
      .storeW(9, 5, Field.TOTAL)
      .loadB(4, base, at + NEXT_HEADER)
      .storeW(9, 4, Field.NEXT)
      .movImm(4, IPV6_BYTES)
      .storeW(9, 4, Field.AT);
    this.#copyAddresses(base, at + ADDRESSES, 16);
    this.#requireWhole();
    this.#upper.walk('ipv6');
  }

  #copyAddresses(base: Register, at: number, bytes: 4 | 16): void {
    const program = this.#access.program;
    for (let k = 0; k < bytes; k += 4) {
      program.loadW(4, base, at + k).storeW(9, 4, Field.SRC + k);
      program.loadW(4, base, at + bytes + k).storeW(9, 4, Field.DST + k);
    }
    program
      .movImm(4, bytes * 8)
      .storeW(9, 4, Field.SRC - 4)
      .storeW(9, 4, Field.DST - 4);
    program.movImm(4, bytes === 4 ? 4 : 6).storeW(9, 4, Field.FAMILY);
  }

  /** The frame has all bytes of the IP packet, whose header is at register 7. */
  #requireWhole(): void {
    const program = this.#access.program;
    if (this.#access.kind === 'skb') {
      program.loadW(2, 6, SKB_LENGTH).loadW(5, 9, Field.TOTAL).alu('add', 5, 7).jumpIf('jgt', 5, 2, 'not ip');
      return;
    }
    program
      .loadW(2, 6, XDP_PACKET.data)
      .loadW(3, 6, XDP_PACKET.end)
      .loadW(5, 9, Field.TOTAL)
      .aluImm('and', 5, 0x1ffff)
      .alu('add', 2, 7)
      .alu('add', 2, 5)
      .jumpIf('jgt', 2, 3, 'not ip');
  }
}
