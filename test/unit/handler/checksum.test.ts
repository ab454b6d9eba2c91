import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checksum,
  icmpChecksum,
  ipv4Checksum,
  sum,
  sumOf,
  udpChecksum,
  update16,
  update32,
} from '../../../src/handler/checksum.ts';
import { be16, ethernet, icmpEcho, ipv4, loaded, naiveChecksum, udp } from '../../support/frames.ts';

const bytes = fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 100 });
const word = fc.integer({ min: 0, max: 0xffff });
const viewOf = (...all: number[][]) => new DataView(Uint8Array.from(all.flat()).buffer);

describe('the Internet checksum', () => {
  it("is RFC 1071's of RFC 1071's example", () => {
    expect(checksum(sum(viewOf([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0, 8))).toBe(
      ~0xddf2 & 0xffff,
    );
  });

  it('agrees with the naive one at any length and alignment', () => {
    fc.assert(
      fc.property(bytes, fc.integer({ min: 0, max: 3 }), (data, at) => {
        expect(checksum(sum(viewOf(Array(at).fill(0xee), data), at, data.length))).toBe(naiveChecksum(data));
      }),
    );
  });

  it('can be summed in pieces, if all but the last are even', () => {
    fc.assert(
      fc.property(bytes, bytes, (first, second) => {
        const even = first.slice(0, first.length & ~1);
        const view = viewOf(even, second);
        const total = sum(view, even.length, second.length, sum(view, 0, even.length));
        expect(checksum(total)).toBe(naiveChecksum([...even, ...second]));
      }),
    );
  });

  it('holds the longest datagram of the largest words', () => {
    const view = viewOf(Array(0xffff).fill(0xff));
    expect(checksum(sum(view, 0, 0xffff))).toBe(0x00ff);
    expect(checksum(sum(view, 0, 0xfffe, 0xffff))).toBe(0);
  });

  it('is 0 over bytes that hold it', () => {
    const view = viewOf(ipv4(icmpEcho([1, 2, 3])));
    expect(checksum(sum(view, 0, 20))).toBe(0);
    expect(checksum(sum(view, 20, 11))).toBe(0);
  });

  it('updated for one field equals the one made anew', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 2, maxLength: 20 }), word, word, (words, after, where) => {
        // A header of nothing but zeros does not exist, and is the one case where 0 and ffff part.
        const data = [0x4500, ...words];
        const k = 1 + (where % words.length);
        const old = naiveChecksum(data.flatMap(be16));
        const before = data[k]!;
        data[k] = after;
        expect(update16(old, before, after)).toBe(naiveChecksum(data.flatMap(be16)));
      }),
    );
  });

  it('updated for an address equals the one made anew', () => {
    const address = fc.integer({ min: 0, max: 0xffffffff });
    const halves = (value: number) => [...be16(value >>> 16), ...be16(value & 0xffff)];
    fc.assert(
      fc.property(bytes, address, address, (rest, before, after) => {
        const old = naiveChecksum([0x45, 0, ...halves(before), ...rest]);
        expect(update32(old, before, after)).toBe(naiveChecksum([0x45, 0, ...halves(after), ...rest]));
      }),
    );
  });
});

describe('the checksum of', () => {
  it('an IPv4 header is computed with its checksum field ignored and its options included', () => {
    fc.assert(
      fc.property(word, fc.integer({ min: 0, max: 10 }), (junk, options) => {
        const header = ipv4([], { options: Array(options * 4).fill(1) });
        const packet = loaded([ethernet(header)]).packet(0);
        const right = packet.u16(24);
        packet.setU16(24, junk);
        expect(ipv4Checksum(packet, 14)).toBe(right);
      }),
      { numRuns: 20 },
    );
  });

  it('an ICMP message or a UDP datagram is found at odd lengths too', () => {
    fc.assert(
      fc.property(bytes, word, (data, junk) => {
        const burst = loaded([ethernet(ipv4(icmpEcho(data))), ethernet(ipv4(udp(data), { protocol: 17 }))]);
        const echo = burst.packet(0);
        const icmp = echo.u16(36);
        echo.setU16(36, junk);
        expect(icmpChecksum(echo, 34, 8 + data.length)).toBe(icmp);
        const datagram = burst.packet(1);
        const right = datagram.u16(40);
        datagram.setU16(40, junk);
        expect(udpChecksum(datagram, 14)).toBe(right);
      }),
      { numRuns: 30 },
    );
  });

  it('a UDP datagram is never 0', () => {
    const without = loaded([ethernet(ipv4(udp([0, 0], { bare: true }), { protocol: 17 }))]).packet(0);
    // Data equal to the checksum of the rest brings the checksum to zero.
    without.setU16(42, udpChecksum(without, 14));
    expect(udpChecksum(without, 14)).toBe(0xffff);
  });

  it('a range outside the packet is refused', () => {
    const packet = loaded([ethernet(ipv4(udp([1]), { protocol: 17 }))]).packet(0);
    expect(() => sumOf(packet, 0, packet.length + 1)).toThrow(RangeError);
    expect(() => sumOf(packet, -2, 2)).toThrow(RangeError);
    packet.setU16(38, 10); // the length field of the datagram
    expect(() => udpChecksum(packet, 14)).toThrow(RangeError);
  });
});
