import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HEADROOM, RESERVED } from '../../../src/memory/layout.ts';
import { ethernet, FRAME_SIZE, loaded, OUR_MAC, PEER_MAC, smallMemory } from '../../support/frames.ts';

const counting = (length: number) => Array.from({ length }, (_, i) => i & 255);

describe('a packet', () => {
  it('reads and writes big-endian at any alignment', () => {
    const memory = smallMemory();
    const packet = loaded([counting(16)], memory).packet(0);
    expect(packet.u8(3)).toBe(3);
    expect(packet.u16(3)).toBe(0x0304);
    expect(packet.u32(3)).toBe(0x03040506);
    packet.setU32(1, 0xdeadbeef);
    packet.setU16(5, 0xcafe);
    packet.setU8(7, 0x55);
    expect([...packet.bytes()]).toEqual([
      0, 0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0x55, 8, 9, 10, 11, 12, 13, 14, 15,
    ]);
    expect(packet.u32(1)).toBe(0xdeadbeef);
  });

  it('answers exactly the accesses that lie inside it, and changes nothing else', () => {
    const memory = smallMemory();
    const untouched = memory.bytes.slice();
    const at = fc.oneof(fc.integer({ min: -9, max: 80 }), fc.constantFrom(NaN, Infinity, -1e9, 2 ** 31));
    fc.assert(
      fc.property(fc.nat(70), at, fc.constantFrom(1, 2, 4), (length, where, size) => {
        const packet = loaded([new Uint8Array(length)], memory).packet(0);
        const read = () =>
          size === 1 ? packet.u8(where) : size === 2 ? packet.u16(where) : packet.u32(where);
        const write = () =>
          size === 1
            ? packet.setU8(where, -1)
            : size === 2
              ? packet.setU16(where, -1)
              : packet.setU32(where, -1);
        // What is not a finite number counts as 0, as where arrays are indexed by integers.
        const first = Number.isFinite(where) ? where : 0;
        if (first >= 0 && first + size <= length) {
          write();
          expect(read()).toBe(2 ** (8 * size) - 1);
          expect([...packet.bytes()].filter((byte) => byte === 255)).toHaveLength(size);
        } else {
          expect(read).toThrow(RangeError);
          expect(write).toThrow(RangeError);
        }
        packet.bytes().fill(0);
      }),
    );
    const { frames } = memory.layout;
    expect(Buffer.compare(memory.bytes.subarray(frames), untouched.subarray(frames))).toBe(0);
    expect(Buffer.compare(memory.bytes.subarray(0, 4096), untouched.subarray(0, 4096))).toBe(0);
  });

  it('is the same object wherever it moves, and not outside the burst', () => {
    const burst = loaded([counting(20), counting(30)]);
    const first = burst.packet(0);
    expect(first.length).toBe(20);
    expect(burst.packet(1)).toBe(first);
    expect(first.length).toBe(30);
    expect(first.offset).toBe(burst.offset[1]);
    for (const i of [2, -1, 64, 1000]) expect(() => burst.packet(i)).toThrow(RangeError);
  });

  it('writes a change of length back to the burst', () => {
    const burst = loaded([counting(60), counting(60)]);
    burst.packet(1).length = 42;
    expect([...burst.bytes.subarray(0, 2)]).toEqual([60, 42]);
    expect(burst.packet(1).length).toBe(42);
  });

  it('grows to the end of its frame and no further', () => {
    const packet = loaded([counting(60)]).packet(0);
    packet.length = FRAME_SIZE - HEADROOM;
    expect(packet.u8(FRAME_SIZE - HEADROOM - 1)).toBe(0);
    expect(() => {
      packet.length = FRAME_SIZE - HEADROOM + 1;
    }).toThrow(RangeError);
    expect(() => {
      packet.length = -1;
    }).toThrow(RangeError);
    expect(packet.length).toBe(FRAME_SIZE - HEADROOM);
  });

  it('takes headroom to the start of its frame and no further', () => {
    const memory = smallMemory();
    const burst = loaded([counting(60), counting(60)], memory);
    const packet = burst.packet(1);
    expect(packet.headroom).toBe(HEADROOM - RESERVED);
    packet.prepend(HEADROOM - RESERVED);
    expect(burst.offset[1]).toBe(memory.layout.frames + FRAME_SIZE + RESERVED);
    expect(burst.bytes[1]).toBe(60 + HEADROOM - RESERVED);
    expect(packet.u8(HEADROOM - RESERVED + 5)).toBe(5);
    expect(() => packet.prepend(1)).toThrow(RangeError);
    expect(() => packet.prepend(-1)).toThrow(RangeError);
    expect(packet.headroom).toBe(0);
  });

  it('gives its front up as headroom, as far as it is long', () => {
    const burst = loaded([counting(60)]);
    const packet = burst.packet(0).trimFront(14);
    expect(packet.u8(0)).toBe(14);
    expect(packet.headroom).toBe(HEADROOM - RESERVED + 14);
    expect(burst.bytes[0]).toBe(46);
    expect(() => packet.trimFront(47)).toThrow(RangeError);
    expect(packet.trimFront(46).length).toBe(0);
    expect(packet.prepend(60).u8(59)).toBe(59);
  });

  it('made outside the burst leaves the burst alone', () => {
    const memory = smallMemory();
    const burst = loaded([counting(60)], memory);
    const packet = burst.packet(0).moveToFrame(memory.layout.frames + 5 * FRAME_SIZE + HEADROOM, 100);
    expect(packet.length).toBe(100);
    packet.prepend(4).length = 90;
    expect(burst.bytes[0]).toBe(60);
    expect(() => packet.moveToFrame(memory.layout.frames + 1, FRAME_SIZE)).toThrow(RangeError);
  });

  it('exchanges the MAC addresses and nothing else', () => {
    const packet = loaded([ethernet(counting(50))]).packet(0);
    packet.swapMacs();
    expect([...packet.bytes()]).toEqual(ethernet(counting(50), { dst: PEER_MAC, src: OUR_MAC }));
    packet.length = 11;
    expect(() => packet.swapMacs()).toThrow(RangeError);
  });

  it.each([0, 1, 2, 3])('exchanges them wherever it starts: %d bytes behind a word', (by) => {
    const packet = loaded([[...counting(by), ...ethernet(counting(50))]])
      .packet(0)
      .trimFront(by);
    packet.swapMacs();
    expect([...packet.bytes()]).toEqual(ethernet(counting(50), { dst: PEER_MAC, src: OUR_MAC }));
    packet.prepend(by);
    expect([...packet.bytes().subarray(0, by)]).toEqual(counting(by));
  });

  it('compares its destination in all six bytes', () => {
    const packet = loaded([ethernet([])]).packet(0);
    expect(packet.dstEquals(Uint8Array.from(OUR_MAC))).toBe(true);
    for (let i = 0; i < 6; i++) {
      expect(packet.dstEquals(Uint8Array.from(OUR_MAC, (byte, k) => (k === i ? byte ^ 1 : byte)))).toBe(
        false,
      );
    }
    expect(packet.isGroup).toBe(false);
    packet.setU8(0, 0x33);
    expect(packet.isGroup).toBe(true);
  });

  it.each([
    ['no tag', [], 14, 0x0800],
    ['an 802.1Q tag', [0x81, 0, 0, 5], 18, 0x0800],
    ['an 802.1ad tag around an 802.1Q tag', [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], 22, 0x0800],
    ['twenty tags', Array.from({ length: 20 }, () => [0x81, 0, 0, 0]).flat(), 94, 0x0800],
    ['a tag of a kind that the kernel does not know, which it leaves', [0x91, 0, 0, 5], 14, 0x9100],
  ])('finds layer 3 behind %s', (_, tags, l3, type) => {
    const packet = loaded([ethernet(counting(40), { tags })]).packet(0);
    expect(packet.l3).toBe(l3);
    expect(packet.etherType).toBe(type);
  });

  it('does not skip a tag that its end cuts off, and has no layer 3 without an Ethernet header', () => {
    const tagged = ethernet([], { tags: [0x81, 0, 0, 5] });
    expect(loaded([tagged.slice(0, 17)]).packet(0).l3).toBe(14);
    expect(loaded([tagged.slice(0, 18)]).packet(0).l3).toBe(18);
    expect(() => loaded([tagged.slice(0, 13)]).packet(0).l3).toThrow(RangeError);
  });

  it('takes and gives whole arrays', () => {
    const packet = loaded([counting(60)]).packet(0);
    packet.write(54, Uint8Array.of(1, 2, 3, 4, 5, 6));
    packet.write(0, new Uint8Array(40).fill(9));
    const copy = new Uint8Array(62);
    expect(packet.copyTo(copy, 2)).toBe(60);
    expect([...copy]).toEqual([
      ...[0, 0],
      ...Array(40).fill(9),
      ...counting(54).slice(40),
      ...[1, 2, 3, 4, 5, 6],
    ]);
    expect(() => packet.copyTo(copy, 3)).toThrow(RangeError);
    expect(() => packet.write(55, new Uint8Array(6))).toThrow(RangeError);
    expect(() => packet.write(-1, new Uint8Array(1))).toThrow(RangeError);
    expect(() => packet.write(0, new Uint8Array(61))).toThrow(RangeError);
  });
});
