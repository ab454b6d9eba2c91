import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Burst, EtherType, type Packet, Protocol } from '../../../src/handler.ts';
import {
  adjust16,
  adjust32,
  adjustUdp16,
  adjustUdp32,
  ethernetBytes,
  type Ipv4Fields,
  type Ipv6Fields,
  ipv4Number,
  TcpFlag,
  VXLAN_BYTES,
  vxlanVni,
  writeEthernet,
  writeIcmp,
  writeIcmpChecksum,
  writeIpv4,
  writeIpv6,
  writeTcp,
  writeTcpChecksum,
  writeUdp,
  writeUdpChecksum,
  writeVlanTag,
  writeVxlan,
} from '../../../src/headers.ts';
import { HEADROOM } from '../../../src/memory/layout.ts';
import {
  be16,
  ethernet,
  icmpEcho,
  ipv4,
  ipv6,
  loaded,
  naiveChecksum,
  smallMemory,
  udp,
} from '../../support/frames.ts';

const memory = smallMemory();
const bytesOf = (length: number) => fc.array(fc.nat(255), { minLength: length, maxLength: length });
const mac = bytesOf(6);
const v4 = bytesOf(4);
const v6 = bytesOf(16);
const port = fc.nat(65_535);
const word = fc.nat(0xffff_ffff);
const data = fc.array(fc.nat(255), { maxLength: 200 });
const number4 = (address: number[]): number => ipv4Number(address.join('.'))!;
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
const MACS = { dst: [2, 0, 0, 0, 0, 2], src: [2, 0, 0, 0, 0, 0x99] };

/** A packet of that length in a frame full of another packet's bytes. */
function made(length: number, write: (packet: Packet) => void): number[] {
  const burst = new Burst(memory, 0);
  const offset = memory.layout.frames + HEADROOM;
  memory.bytes.fill(0xa5, offset, offset + 1500);
  burst.offset[0] = offset;
  burst.bytes[0] = length;
  burst.begin(1);
  const packet = burst.packet(0);
  write(packet);
  return [...packet.bytes()];
}

/** A packet that `fill` writes after an Ethernet header. */
const behindEthernet = (type: number, length: number, fill: (packet: Packet, at: number) => void) =>
  made(ethernetBytes() + length, (packet) =>
    fill(packet, writeEthernet(packet, Uint8Array.from(MACS.dst), Uint8Array.from(MACS.src), type)),
  );

function tcpBytes(src: number[], dst: number[], fields: number[], rest: number[]): number[] {
  const segment = [...fields, 0, 0, 0, 0, ...rest];
  const length = be32(segment.length);
  segment.splice(16, 2, ...be16(naiveChecksum([...src, ...dst, ...length, 0, 0, 0, 6, ...segment])));
  return segment;
}

describe('header builders', () => {
  it('write an Ethernet header with any VLAN tags', () => {
    fc.assert(
      fc.property(mac, mac, fc.array(port, { maxLength: 3 }), (dst, src, controls) => {
        const bytes = made(ethernetBytes(controls.length), (packet) => {
          const type = (i: number) => (i < controls.length ? EtherType.VLAN : EtherType.IPV6);
          let at = writeEthernet(packet, Uint8Array.from(dst), Uint8Array.from(src), type(0));
          for (const [i, control] of controls.entries()) at = writeVlanTag(packet, at, control, type(i + 1));
          expect(at).toBe(packet.length);
        });
        const tags = controls.flatMap((control) => [0x81, 0, ...be16(control)]);
        expect(bytes).toEqual(ethernet([], { dst, src, tags, type: 0x86dd }));
      }),
    );
  });

  it('refuse a VLAN tag behind another type', () => {
    expect(() => behindEthernet(EtherType.IPV4, 4, (packet, at) => writeVlanTag(packet, at, 1, 2))).toThrow(
      'not that of a VLAN tag',
    );
  });

  it('write UDP over IPv4 with both checksums', () => {
    fc.assert(
      fc.property(v4, v4, port, port, data, fc.nat(255), (src, dst, from, to, payload, ttl) => {
        const bytes = behindEthernet(EtherType.IPV4, 28 + payload.length, (packet, ip) => {
          const fields: Ipv4Fields = { ttl, identification: 0x1234 };
          const [source, target] = [number4(src), number4(dst)];
          const l4 = writeIpv4(packet, ip, source, target, Protocol.UDP, 8 + payload.length, fields);
          packet.write(writeUdp(packet, l4, from, to, payload.length), Uint8Array.from(payload));
          writeUdpChecksum(packet, ip, l4);
        });
        const datagram = udp(payload, { src, dst, from, to });
        expect(bytes).toEqual(ethernet(ipv4(datagram, { src, dst, ttl, protocol: 17 }), MACS));
      }),
    );
  });

  it('write TCP over IPv6, options included', () => {
    const options = fc.nat(10).map((words) => Array<number>(4 * words).fill(1));
    fc.assert(
      fc.property(
        v6,
        v6,
        port,
        word,
        word,
        port,
        options,
        data,
        (src, dst, from, seq, ack, window, opts, rest) => {
          const length = 20 + opts.length + rest.length;
          const bytes = behindEthernet(EtherType.IPV6, 40 + length, (packet, ip) => {
            const fields: Ipv6Fields = { hopLimit: 17 };
            const [from6, to6] = [Uint8Array.from(src), Uint8Array.from(dst)];
            const l4 = writeIpv6(packet, ip, from6, to6, Protocol.TCP, length, fields);
            const flags = TcpFlag.SYN | TcpFlag.ACK;
            const at = writeTcp(packet, l4, from, 443, seq, ack, flags, window, opts.length);
            packet.write(at, Uint8Array.from([...opts, ...rest]));
            writeTcpChecksum(packet, ip, l4, length);
          });
          const first = (20 + opts.length) << 2;
          const fields = [
            ...be16(from),
            ...be16(443),
            ...be32(seq),
            ...be32(ack),
            first,
            0x12,
            ...be16(window),
          ];
          const segment = tcpBytes(src, dst, fields, [...opts, ...rest]);
          expect(bytes).toEqual(ethernet(ipv6(segment, { src, dst, next: 6 }), { ...MACS, type: 0x86dd }));
        },
      ),
    );
  });

  it('write traffic class and flow label', () => {
    const zero = new Uint8Array(16);
    const bytes = behindEthernet(EtherType.IPV6, 40, (packet, ip) =>
      writeIpv6(packet, ip, zero, zero, 59, 0, { trafficClass: 0xab, flowLabel: 0xcdef1 }),
    );
    expect(bytes.slice(14, 18)).toEqual([0x6a, 0xbc, 0xde, 0xf1]);
    const old = behindEthernet(EtherType.IPV4, 20, (packet, ip) =>
      writeIpv4(packet, ip, 1, 2, 59, 0, { trafficClass: 0xab, fragment: 0x2001 }),
    );
    expect([old[15], old[20], old[21]]).toEqual([0xab, 0x20, 0x01]);
    expect(naiveChecksum(old.slice(14, 34))).toBe(0);
  });

  it('write ICMP echoes of both versions', () => {
    fc.assert(
      fc.property(v4, v6, data, (src, src6, payload) => {
        const dst6 = [...src6].reverse();
        const length = 8 + payload.length;
        const four = behindEthernet(EtherType.IPV4, 20 + length, (packet, ip) => {
          const l4 = writeIpv4(packet, ip, number4(src), 7, Protocol.ICMP, length);
          packet.write(writeIcmp(packet, l4, 8, 0, 0xabcd0001), Uint8Array.from(payload));
          writeIcmpChecksum(packet, ip, l4, length);
        });
        expect(four.slice(34)).toEqual(icmpEcho(payload));
        const six = behindEthernet(EtherType.IPV6, 40 + length, (packet, ip) => {
          const [from, to] = [Uint8Array.from(src6), Uint8Array.from(dst6)];
          const l4 = writeIpv6(packet, ip, from, to, Protocol.ICMPV6, length);
          packet.write(writeIcmp(packet, l4, 128, 0, 0xabcd0001), Uint8Array.from(payload));
          writeIcmpChecksum(packet, ip, l4, length);
        });
        const message = six.slice(54);
        expect(message.slice(4)).toEqual([0xab, 0xcd, 0, 1, ...payload]);
        expect(naiveChecksum([...src6, ...dst6, ...be32(length), 0, 0, 0, 58, ...message])).toBe(0);
      }),
    );
  });

  it('write a VXLAN header that is read back', () => {
    fc.assert(
      fc.property(fc.nat(0xffffff), (vni) => {
        const bytes = made(VXLAN_BYTES, (packet) => {
          expect(writeVxlan(packet, 0, vni)).toBe(8);
          expect(vxlanVni(packet, 0)).toBe(vni);
          packet.setU8(0, 0xf7); // every flag but that of the VNI
          expect(vxlanVni(packet, 0)).toBe(-1);
          packet.setU8(0, 0xff);
          expect(vxlanVni(packet, 0)).toBe(vni);
        });
        expect(bytes.slice(4)).toEqual([...be32(vni << 8)]);
      }),
    );
  });

  it('throw for what does not fit, and write nothing beyond the packet', () => {
    const six = new Uint8Array(6);
    const long = new Uint8Array(16);
    const writers: ((packet: Packet, at: number) => unknown)[] = [
      (packet) => writeEthernet(packet, six, six, 0),
      (packet, at) => writeIpv4(packet, at, 1, 2, 3, 4),
      (packet, at) => writeIpv6(packet, at, long, long, 3, 4),
      (packet, at) => writeUdp(packet, at, 1, 2, 3),
      (packet, at) => writeTcp(packet, at, 1, 2, 3, 4, 5, 6),
      (packet, at) => writeIcmp(packet, at, 1, 2, 3),
      (packet, at) => writeVxlan(packet, at, 1),
    ];
    const sizes = [14, 20, 40, 8, 20, 8, 8];
    for (const [i, write] of writers.entries()) {
      for (let length = 0; length < sizes[i]!; length++) {
        made(length, (packet) => {
          expect(() => write(packet, 0)).toThrow(RangeError);
          expect(packet.view.getUint8(packet.offset + length)).toBe(0xa5);
        });
      }
    }
    expect(() => made(60, (packet) => writeIpv4(packet, 0, 1, 2, 3, 65_516))).toThrow(RangeError);
    expect(() => made(60, (packet) => writeUdp(packet, 0, 1, 2, 65_528))).toThrow(RangeError);
    expect(() => made(60, (packet) => writeTcp(packet, 0, 1, 2, 3, 4, 5, 6, 6))).toThrow(RangeError);
    expect(() => made(60, (packet) => writeTcp(packet, 0, 1, 2, 3, 4, 5, 6, 44))).toThrow(RangeError);
  });
});

describe('adjusting a checksum', () => {
  const datagram = fc.tuple(v4, v4, port, port, data, fc.boolean());

  it('gives what a packet built with the new values has', () => {
    fc.assert(
      fc.property(datagram, v4, port, ([src, dst, from, to, payload, bare], other, otherPort) => {
        const frame = ethernet(ipv4(udp(payload, { src, dst, from, to, bare }), { src, dst, protocol: 17 }));
        const packet = loaded([frame], memory).packet(0);
        adjust32(packet, 24, number4(dst), number4(other));
        adjustUdp32(packet, 40, number4(dst), number4(other) | 0);
        adjustUdp16(packet, 40, to, otherPort);
        packet.setU32(30, number4(other));
        packet.setU16(36, otherPort);
        const changed = udp(payload, { src, dst: other, from, to: otherPort, bare });
        expect([...packet.bytes()].slice(26)).toEqual(
          ipv4(changed, { src, dst: other, protocol: 17 }).slice(12),
        );
        // 0 and 0xffff are one number, and the checksum of a header may be either.
        expect(naiveChecksum([...packet.bytes()].slice(14, 34))).toBe(0);
      }),
    );
  });

  it('follows a 16-bit field of TCP, whose checksum may become 0', () => {
    fc.assert(
      fc.property(v4, v4, port, port, data, (src, dst, from, to, rest) => {
        const segment = tcpBytes(src, dst, [...be16(from), 0, 80, ...Array(12).fill(0x50)], rest);
        const packet = loaded([ethernet(ipv4(segment, { src, dst, protocol: 6 }))], memory).packet(0);
        adjust16(packet, 50, 80, to);
        packet.setU16(36, to);
        const bytes = [...packet.bytes()].slice(34);
        expect(naiveChecksum([...src, ...dst, 0, 6, ...be16(bytes.length), ...bytes])).toBe(0);
      }),
    );
  });
});
