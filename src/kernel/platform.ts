/**
 * The packets that `protect: 'platform'` keeps from the handler, because a machine on Azure depends on them, as BPF
 * instructions:
 * - IPv4 from or to 168.63.129.16: health probes, DHCP and DNS of the platform, the guest agent (Microsoft Learn, "What
 *   is IP address 168.63.129.16?").
 * - IPv4 from or to 169.254.169.254: instance metadata and its tokens (Microsoft Learn, "Azure Instance Metadata Service").
 * - DHCP: UDP between the ports 67 and 68 (RFC 2131), and DHCPv6: UDP to 546 or 547 (RFC 8415).
 * - ARP replies: without them the machine loses its gateway and can send none of the above.
 *
 * These packets are untagged on Azure, so a frame with a VLAN tag is never protected. Neither is a packet with IPv6
 * extension headers. NB: the sender is not checked. Azure's network drops packets with a forged address; another network
 * needs a filter in front of the machine.
 */
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';
import { PORTS_BYTES, Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { IPV6_BYTES } from '../net/ipv6.ts';
import { type Assembler, htons } from './assembler.ts';

/** Offsets of the pointers to the packet's bytes in the context: `struct xdp_md`, `struct __sk_buff`. */
export const XDP_PACKET = { data: 0, end: 4 } as const;
export const SKB_PACKET = { data: 76, end: 80 } as const;

/** Addresses in network order, as a little-endian machine loads them. */
const WIRE_SERVER = 0x10813fa8;
const METADATA = 0xfea9fea9;
/** 16-bit numbers in the same order. */
const TYPE = { IPV4: htons(EtherType.IPV4), ARP: htons(EtherType.ARP), IPV6: htons(EtherType.IPV6) } as const;
const ARP_REPLY = htons(2);
const DHCP = { server: htons(67), client: htons(68) } as const;
const DHCP6 = { client: htons(546), server: htons(547) } as const;
/** Bits of the fragment field. */
const FRAGMENT_OFFSET = htons(0x1fff);
const { UDP } = Protocol;

const ETHERNET = ETHERNET_BYTES;
const IPV4 = IPV4_BYTES;
const IPV6 = IPV6_BYTES;
const PORTS = PORTS_BYTES;
/** `struct __sk_buff` */
const SKB_LEN = 0;
const SKB_VLAN_PRESENT = 20;
const PULL_DATA = 39;

/**
 * Appends instructions that jump to the label 'protected' if the packet is one of those, and continue if not. The context
 * is in register 1, before and after; registers 2 to 6 are overwritten.
 */
export function matchPlatform(program: Assembler, packet: typeof XDP_PACKET | typeof SKB_PACKET): Assembler {
  program.mov(6, 1);
  if (packet === SKB_PACKET) {
    // A tag that the kernel has taken out of the frame, or will put in, is in the sk_buff.
    program.loadW(2, 6, SKB_VLAN_PRESENT).jneImm(2, 0, 'unprotected');
  }
  program.loadW(2, 6, packet.data).loadW(3, 6, packet.end);
  if (packet === SKB_PACKET) pullHeaders(program);
  return program
    .mov(4, 2)
    .aluImm('add', 4, ETHERNET + IPV4)
    .jumpIf('jgt', 4, 3, 'unprotected')
    .loadH(4, 2, ETHERNET - 2)
    .jeqImm(4, TYPE.ARP, 'arp')
    .jeqImm(4, TYPE.IPV6, 'ipv6')
    .jneImm(4, TYPE.IPV4, 'unprotected')

    .loadW(4, 2, ETHERNET + 12)
    .jumpIf32Imm('jeq', 4, WIRE_SERVER, 'protected')
    .jumpIf32Imm('jeq', 4, METADATA, 'protected')
    .loadW(4, 2, ETHERNET + 16)
    .jumpIf32Imm('jeq', 4, WIRE_SERVER, 'protected')
    .jumpIf32Imm('jeq', 4, METADATA, 'protected')
    .loadB(4, 2, ETHERNET + 9)
    .jneImm(4, UDP, 'unprotected')
    .loadH(4, 2, ETHERNET + 6)
    .jumpIfImm('jset', 4, FRAGMENT_OFFSET, 'unprotected')
    .loadB(4, 2, ETHERNET)
    .aluImm('and', 4, 15)
    .aluImm('lsh', 4, 2)
    .alu('add', 2, 4) // past the IPv4 header
    .mov(4, 2)
    .aluImm('add', 4, ETHERNET + PORTS)
    .jumpIf('jgt', 4, 3, 'unprotected')
    .loadH(4, 2, ETHERNET)
    .loadH(5, 2, ETHERNET + 2)
    .jeqImm(4, DHCP.server, 'from dhcp')
    .jneImm(4, DHCP.client, 'unprotected')
    .label('from dhcp')
    .jeqImm(5, DHCP.server, 'protected')
    .jeqImm(5, DHCP.client, 'protected')
    .jump('unprotected')

    .label('ipv6')
    .mov(4, 2)
    .aluImm('add', 4, ETHERNET + IPV6 + PORTS)
    .jumpIf('jgt', 4, 3, 'unprotected')
    .loadB(4, 2, ETHERNET + 6)
    .jneImm(4, UDP, 'unprotected')
    .loadH(4, 2, ETHERNET + IPV6 + 2)
    .jeqImm(4, DHCP6.client, 'protected')
    .jeqImm(4, DHCP6.server, 'protected')
    .jump('unprotected')

    .label('arp')
    .loadH(4, 2, ETHERNET + 6)
    .jeqImm(4, ARP_REPLY, 'protected')

    .label('unprotected')
    .mov(1, 6);
}

/** A sk_buff may have its headers in fragments, which a program cannot read: the kernel must linearize them first. */
function pullHeaders(program: Assembler): void {
  const bytes = ETHERNET + IPV6 + PORTS;
  program
    .mov(4, 2)
    .aluImm('add', 4, bytes)
    .jumpIf('jle', 4, 3, 'in reach')
    .loadW(4, 6, SKB_LEN)
    .jumpIfImm('jlt', 4, bytes, 'in reach')
    .mov(1, 6)
    .movImm(2, bytes)
    .call(PULL_DATA)
    .loadW(2, 6, SKB_PACKET.data)
    .loadW(3, 6, SKB_PACKET.end)
    .label('in reach');
}
