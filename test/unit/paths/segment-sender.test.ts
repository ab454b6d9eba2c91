/** What a large segment looks like to the kernel when it is sent uncut: written to a file instead of a socket. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { check, Errno } from '../../../src/errors.ts';
import { loadShim, type Shim } from '../../../src/kernel/shim.ts';
import { pathCounters } from '../../../src/memory/counters.ts';
import { Path } from '../../../src/memory/layout.ts';
import { offloadWord, PSEUDO_KEPT, Segmentation } from '../../../src/memory/offload.ts';
import { limitSentBytes } from '../../../src/paths/packet-limit.ts';
import { SegmentSender } from '../../../src/paths/segments.ts';
import { ACK, CWR, frameOf, headersArbitrary, noise, roomyMemory, segment } from '../../support/segments.ts';

const O_WRONLY_APPEND = 1 | 0o2000;
const address = { port: 0, queue: 0, path: Path.SYNTHETIC };

const shim = loadShim();
const { memory, large } = roomyMemory();
const folder = mkdtempSync(join(tmpdir(), 'twinpath-'));
const file = join(folder, 'sent');
writeFileSync(file, '');
const fd = check(shim.open(file, O_WRONLY_APPEND), 'open');
const word = memory.slot({ port: 0, queue: 0, path: Path.SYNTHETIC }).at('segmentsFd');

beforeEach(() => truncateSync(file));
afterAll(() => {
  shim.close(fd);
  rmSync(folder, { recursive: true });
});

/** The bytes that went, or undefined if none did. */
function sent(packet: readonly number[], offload: number, socket = fd): number[] | undefined {
  memory.words[word] = socket;
  memory.bytes.set(packet, large);
  truncateSync(file);
  const went = SegmentSender.of(shim, memory, address)!.send(large, packet.length, offload);
  const bytes = [...readFileSync(file)];
  expect(bytes.length > 0).toBe(went);
  return went ? bytes : undefined;
}

const le16 = (value: number): number[] => [value & 255, value >> 8];

describe('a large segment that is sent uncut', () => {
  it('goes behind its IPv6 extension headers, with the sum that only its field has where it is routed', () => {
    const payload = noise(300, 1);
    const routing = { type: 43, data: [4, 1, 0, 0, 0, 0, ...noise(16, 7)] };
    const options = { type: 60, data: [1, 4, 0, 0, 0, 0] };
    for (const extensions of [[options], [options, routing], [routing]]) {
      const packet = frameOf(segment({ version: 6, extensions, payload, unfinished: true }));
      const l4 = packet.length - 320;
      const routed = extensions.includes(routing) ? PSEUDO_KEPT : 0;
      const header = [1, 4, ...le16(l4 + 20), ...le16(100), ...le16(l4), 16, 0];
      expect(sent(packet, offloadWord(100, Segmentation.TCP_V6, true) | routed)).toEqual([
        ...header,
        ...packet,
      ]);
    }
  });

  it('goes behind a header that says where its checksum is and how it is to be cut', () => {
    fc.assert(
      fc.property(headersArbitrary, fc.constantFrom(6 as const, 17 as const), (fields, protocol) => {
        const s = { ...fields, protocol, payload: noise(300, 1), unfinished: true };
        const packet = frameOf(s);
        const tcp = s.version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;
        const kind = protocol === 6 ? tcp : Segmentation.UDP;
        const l4 = 14 + 4 * s.vlans.length + (s.version === 4 ? 20 : 40);
        const payload = l4 + (protocol === 6 ? 20 + s.options.length : 8);
        const header = [
          1,
          kind,
          ...le16(payload),
          ...le16(100),
          ...le16(l4),
          ...le16(protocol === 6 ? 16 : 6),
        ];
        expect(sent(packet, offloadWord(100, kind, true))).toEqual([...header, ...packet]);
      }),
    );
  });

  it('has the sum of the addresses it has now, whatever its checksum was', () => {
    const offload = offloadWord(100, Segmentation.TCP_V4, true);
    const fields = { payload: noise(300, 1), src: [10, 77, 0, 200] };
    const expected = frameOf(segment({ ...fields, unfinished: true }));
    const readdressed = frameOf(segment({ payload: fields.payload, unfinished: true }));
    readdressed.splice(26, 4, ...fields.src);
    expect(sent(readdressed, offload)!.slice(10 + 34)).toEqual(expected.slice(34));
    const whole = frameOf(segment(fields));
    expect(sent(whole, offloadWord(100, Segmentation.TCP_V4, false))!.slice(10)).toEqual(expected);
  });

  it('says so if it announces a smaller congestion window, once for all its frames', () => {
    const packet = frameOf(segment({ flags: ACK | CWR, payload: noise(300, 1), unfinished: true }));
    expect(sent(packet, offloadWord(100, Segmentation.TCP_V4, true))!.slice(0, 2)).toEqual([1, 0x81]);
  });

  it('is left to be cut if it is not what its offload word says, or the kernel does not take it', () => {
    const packet = frameOf(segment({ payload: noise(300, 1), unfinished: true }));
    const offload = offloadWord(100, Segmentation.TCP_V4, true);
    expect(sent(packet, offloadWord(100, Segmentation.TCP_V6, true))).toBeUndefined();
    expect(sent(packet, offloadWord(100, Segmentation.UDP, true))).toBeUndefined();
    expect(sent(packet.slice(0, 60), offload)).toBeUndefined();
    expect(sent(packet, offload, 999)).toBeUndefined();
  });

  it('is left to be cut, and costs no try, if one of its pieces is longer than the path sends', () => {
    const tcp = frameOf(segment({ payload: noise(300, 1), unfinished: true }));
    const udp = frameOf(segment({ protocol: 17, payload: noise(300, 1), unfinished: true }));
    const refused = pathCounters(memory, 0, 0, Path.SYNTHETIC).txSegmentsRefused;
    const before = memory.doubles[refused];
    try {
      for (const [packet, kind, headers] of [
        [tcp, Segmentation.TCP_V4, 54],
        [udp, Segmentation.UDP, 42],
      ] as const) {
        for (const [size, piece] of [
          [100, 100],
          [299, 299],
          [1448, 300],
        ] as const) {
          limitSentBytes(memory, 0, Path.SYNTHETIC, headers + piece);
          expect(sent(packet, offloadWord(size, kind, true))).toBeDefined();
          limitSentBytes(memory, 0, Path.SYNTHETIC, headers + piece - 1);
          expect(sent(packet, offloadWord(size, kind, true))).toBeUndefined();
        }
      }
      expect(memory.doubles[refused]).toBe(before);
    } finally {
      limitSentBytes(memory, 0, Path.SYNTHETIC, 1518);
    }
  });

  it('has no sender where there is no socket', () => {
    for (const none of [0, -1]) {
      memory.words[word] = none;
      expect(SegmentSender.of(shim, memory, address)).toBeUndefined();
    }
  });
});

describe('a device that takes no large segments', () => {
  const packet = frameOf(segment({ payload: noise(300, 1), unfinished: true }));
  const offload = offloadWord(100, Segmentation.TCP_V4, true);
  let asked = 0;
  let takes = false;
  const writeAt = (...[, , , , length]: Parameters<Shim['writeAt']>): number => {
    asked++;
    return takes ? length : Errno.ENOBUFS;
  };

  /** Which of so many segments the device was asked to take. */
  function attempts(sender: SegmentSender, segments: number): number[] {
    const all: number[] = [];
    for (let i = 0; i < segments; i++) {
      const before = asked;
      memory.bytes.set(packet, large);
      expect(sender.send(large, packet.length, offload)).toBe(takes && asked > before);
      if (asked > before) all.push(i);
    }
    return all;
  }

  it('is asked ever more rarely, but for good; and each time again once it has taken one', () => {
    memory.words[word] = fd;
    const counter = pathCounters(memory, 0, 0, Path.SYNTHETIC);
    const counted = (): number[] =>
      (['txSegmentsRefused', 'txSegments', 'txPosted', 'txPackets', 'txBytes'] as const).map((name) => {
        const value = memory.doubles[counter[name]]!;
        memory.doubles[counter[name]] = 0;
        return value;
      });
    counted();
    const sender = SegmentSender.of({ ...shim, writeAt }, memory, address)!;
    expect(attempts(sender, 40)).toEqual([0, 2, 5, 10, 19, 36]);
    expect(counted()).toEqual([6, 0, 0, 0, 0]);
    const rarely = attempts(sender, 10_000);
    expect(rarely.at(-1)! - rarely.at(-2)!).toBe(1025);
    counted();

    takes = true;
    const again = attempts(sender, 1030);
    const taken = 1030 - again[0]!;
    expect(again).toHaveLength(taken);
    expect(counted()).toEqual([0, taken, taken, taken, taken * packet.length]);
    takes = false;
    expect(attempts(sender, 5)).toEqual([0, 2]);
  });

  it('is given those of another kind all the same', () => {
    memory.words[word] = fd;
    const datagram = frameOf(segment({ protocol: 17, payload: noise(300, 1), unfinished: true }));
    const cutsTcp = (...[, , , , length]: Parameters<Shim['writeAt']>): number =>
      length === packet.length + 10 ? length : Errno.ENOBUFS;
    const sender = SegmentSender.of({ ...shim, writeAt: cutsTcp }, memory, address)!;
    for (let i = 0; i < 20; i++) {
      memory.bytes.set(datagram, large);
      expect(sender.send(large, datagram.length, offloadWord(100, Segmentation.UDP, true))).toBe(false);
      memory.bytes.set(packet, large);
      expect(sender.send(large, packet.length, offload)).toBe(true);
    }
  });
});
