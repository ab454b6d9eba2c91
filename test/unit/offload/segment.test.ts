/** Cutting large segments, finishing checksums, and the header in which the kernel asks for both. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  isUnfinished,
  offloadWord,
  Segmentation,
  segmentation,
  segmentBytes,
} from '../../../src/memory/offload.ts';
import { Headers } from '../../../src/net/headers.ts';
import { finishChecksum } from '../../../src/offload/finish.ts';
import { Segmenter } from '../../../src/offload/segment.ts';
import { readHeader, VIRTIO_HEADER_BYTES, writeHeader } from '../../../src/offload/virtio.ts';
import { arp, ethernet, icmpEcho, ipv4 } from '../../support/frames.ts';
import {
  ACK,
  CWR,
  dissect,
  ECE,
  extensionsArbitrary,
  FIN,
  frameOf,
  headersArbitrary,
  noise,
  PSH,
  roomyMemory,
  type Segment,
  SYN,
  segment,
} from '../../support/segments.ts';

const { memory, large, frames } = roomyMemory();
const FRAME_BYTES = 4096;
const segmenter = new Segmenter(memory);

const kindOf = ({ protocol, version }: Segment): number =>
  protocol === 17 ? Segmentation.UDP : version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;

const bytesAt = (offset: number, count: number): number[] => [
  ...memory.bytes.subarray(offset, offset + count),
];

/** The frames a packet is cut into; `shift` moves the packet against the alignment of the frames. */
function cut(packet: readonly number[], size: number, kind: number, room = 4000, shift = 0): number[][] {
  const at = large + shift;
  memory.bytes.set(packet, at);
  const count = segmenter.begin(at, packet.length, offloadWord(size, kind, true), room);
  const pieces: number[][] = [];
  for (let i = 0; i < count; i++) {
    const target = frames + (i % 256) * FRAME_BYTES;
    const length = segmenter.write(i, target);
    pieces.push(bytesAt(target, length));
  }
  expect(bytesAt(at, packet.length)).toEqual(packet); // the packet stays as it is
  return pieces;
}

/** The virtio header of a packet that is to be cut, as the kernel writes it: by where the checksum is. */
function largeHeader(s: Segment, size: number, flags = 1): number[] {
  const extensions = s.extensions.reduce((sum, { data }) => sum + data.length + 2, 0);
  const ip = s.version === 4 ? 20 + s.ipOptions.length : 40 + extensions;
  const start = 14 + 4 * s.vlans.length + ip;
  const le16 = (value: number): number[] => [value & 255, value >> 8];
  const fields = [start + 20, size, flags === 1 ? start : 0, flags === 1 ? (s.protocol === 6 ? 16 : 6) : 0];
  return [flags, kindOf(s), ...fields.flatMap(le16)];
}

/** The frames that the packet of a segment is cut into by what its virtio header says. */
function cutBySaying(s: Segment, size: number, header = largeHeader(s, size)): number[][] | 'dropped' {
  const packet = frameOf(s);
  memory.bytes.set([...header, ...packet], large - VIRTIO_HEADER_BYTES);
  const word = readHeader(memory.view, large - VIRTIO_HEADER_BYTES, large, packet.length, new Headers());
  if (word < 0) return 'dropped';
  const count = segmenter.begin(large, packet.length, word, 4000);
  return Array.from({ length: count }, (_, i) => {
    const target = frames + (i % 256) * FRAME_BYTES;
    return bytesAt(target, segmenter.write(i, target));
  });
}

/** The slow model: what each frame should be, field by field. */
function expected(whole: Segment, size: number): Segment[] {
  const count = Math.max(1, Math.ceil(whole.payload.length / size));
  return Array.from({ length: count }, (_, i) => {
    let { flags } = whole;
    if (i > 0) flags &= ~CWR;
    if (i < count - 1) flags &= ~(FIN | PSH);
    return {
      ...whole,
      unfinished: false,
      id: whole.version === 4 ? (whole.id + i) & 0xffff : whole.id,
      seq: whole.protocol === 6 ? (whole.seq + i * size) >>> 0 : whole.seq,
      flags: whole.protocol === 6 ? flags : whole.flags,
      payload: whole.payload.slice(i * size, (i + 1) * size),
    };
  });
}

describe('a large segment', () => {
  it('is cut into frames that are right in every field, for any headers', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: 10 }),
        fc.integer({ min: 0, max: 6000 }),
        fc.integer({ min: 100, max: 1600 }),
        fc.integer({ min: 0, max: 3 }),
        (headers, flags, ipOptions, count, size, shift) => {
          const whole = {
            ...headers,
            flags,
            ipOptions: headers.version === 4 ? Array(ipOptions * 4).fill(1) : [],
            payload: noise(count, count),
            unfinished: true,
          };
          const pieces = cut(frameOf(whole), size, kindOf(whole), 4000, shift);
          expect(pieces.map(dissect)).toEqual(expected(whole, size));
          expect(pieces.flatMap((piece) => dissect(piece).payload)).toEqual(whole.payload);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('of 64 KiB comes out whole', () => {
    const whole = segment({ payload: noise(65_535 - 40, 7), unfinished: true, id: 0xfff0, seq: 0xffffff00 });
    const pieces = cut(frameOf(whole), 1460, Segmentation.TCP_V4);
    expect(pieces).toHaveLength(45);
    expect(pieces.map(dissect)).toEqual(expected(whole, 1460));
  });

  it('of UDP becomes datagrams with lengths and checksums of their own', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.integer({ min: 0, max: 4000 }),
        fc.integer({ min: 100, max: 1472 }),
        (headers, count, size) => {
          const { version, vlans, tos, ttl, id, fragment, from, to, src, dst } = headers;
          const fields = { version, vlans, tos, ttl, id, fragment, from, to, src, dst };
          const payload = noise(count, count);
          const whole = segment({ ...fields, protocol: 17, payload, unfinished: true });
          const pieces = cut(frameOf(whole), size, Segmentation.UDP);
          expect(pieces.map(dissect)).toEqual(expected(whole, size));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('gives a datagram whose checksum comes to 0 the other zero', () => {
    const whole = segment({ protocol: 17, payload: Array(200).fill(0), unfinished: true });
    const [first] = cut(frameOf(whole), 100, Segmentation.UDP);
    // Data equal to the checksum of the rest brings the checksum to zero.
    const zero = { ...whole, payload: [...first!.slice(40, 42), ...Array(198).fill(0)] };
    expect(cut(frameOf(zero), 100, Segmentation.UDP)[0]!.slice(40, 42)).toEqual([0xff, 0xff]);
  });

  it('keeps FIN and PSH for its last frame and CWR for its first', () => {
    const whole = segment({ flags: ACK | PSH | FIN | CWR | ECE, payload: noise(250, 1), unfinished: true });
    const flags = cut(frameOf(whole), 100, Segmentation.TCP_V4).map((piece) => dissect(piece).flags);
    expect(flags).toEqual([ACK | CWR | ECE, ACK | ECE, ACK | PSH | FIN | ECE]);
  });

  it('loses the padding behind it', () => {
    const whole = segment({ payload: [1, 2], unfinished: true });
    const [only] = cut([...frameOf(whole), 9, 9, 9], 100, Segmentation.TCP_V4);
    expect(dissect(only!)).toEqual({ ...whole, unfinished: false });
  });

  it('is not cut if frames had no room for the pieces', () => {
    const packet = frameOf(segment({ payload: noise(3000, 1), unfinished: true }));
    expect(cut(packet, 1000, Segmentation.TCP_V4, 1054)).toHaveLength(3);
    expect(cut(packet, 1000, Segmentation.TCP_V4, 1053)).toEqual([]);
  });

  it('is not cut if its kind is unknown or not that of its headers', () => {
    const tcp4 = frameOf(segment({ unfinished: true }));
    const tcp6 = frameOf(segment({ version: 6, unfinished: true }));
    const udp = frameOf(segment({ protocol: 17, unfinished: true }));
    for (const kind of [0, 2, 3, 5, 0x81]) expect(cut(tcp4, 100, kind)).toEqual([]);
    expect(cut(tcp4, 100, Segmentation.TCP_V6)).toEqual([]);
    expect(cut(tcp6, 100, Segmentation.TCP_V4)).toEqual([]);
    expect(cut(udp, 100, Segmentation.TCP_V4)).toEqual([]);
    expect(cut(tcp4, 0, Segmentation.TCP_V4)).toEqual([]);
  });

  it('behind IPv6 extension headers has them in each frame, and the checksum of where it is routed to', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        extensionsArbitrary,
        fc.constantFrom(6 as const, 17 as const),
        fc.integer({ min: 0, max: 3000 }),
        fc.integer({ min: 100, max: 1600 }),
        (headers, extensions, protocol, count, size) => {
          const { vlans, tos, ttl, from, to } = headers;
          const tcp = protocol === 6 ? { options: headers.options, seq: headers.seq, ack: headers.ack } : {};
          const fields = { vlans, tos, ttl, from, to, extensions, protocol, ...tcp };
          const whole = segment({ version: 6, ...fields, payload: noise(count, count), unfinished: true });
          const pieces = cutBySaying(whole, size);
          expect((pieces as number[][]).map(dissect)).toEqual(expected(whole, size));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('with an IPv4 source route has the checksum of where it is routed to', () => {
    const route = [131, 7, 4, 10, 0, 0, 9, 1];
    const whole = segment({ ipOptions: route, payload: noise(300, 1), unfinished: true });
    const destination = [10, 0, 0, 9];
    const pieces = cutBySaying(whole, 100) as number[][];
    expect(pieces.map(dissect)).toEqual(expected(whole, 100));
    const direct = frameOf(segment({ dst: destination, payload: whole.payload.slice(0, 100) }));
    expect(pieces[0]!.slice(-120, -100)).toEqual(direct.slice(-120, -100));
  });

  it('whose address a handler has changed gets the checksum of the new one, behind options too', () => {
    for (const fields of [
      { ipOptions: [1, 1, 1, 0] },
      { version: 6, extensions: [{ type: 60, data: [1, 4, 0, 0, 0, 0] }] },
    ] as Partial<Segment>[]) {
      const whole = segment({ ...fields, payload: noise(300, 1), unfinished: true });
      const packet = frameOf(whole);
      memory.bytes.set([...largeHeader(whole, 100), ...packet], large - VIRTIO_HEADER_BYTES);
      const word = readHeader(memory.view, large - VIRTIO_HEADER_BYTES, large, packet.length, new Headers());
      const last = 14 + (whole.version === 4 ? 19 : 39);
      memory.bytes[large + last] = 0x55;
      expect(segmenter.begin(large, packet.length, word, 4000)).toBe(3);
      const { dst } = dissect(bytesAt(frames, segmenter.write(0, frames)));
      expect(dst).toEqual([...whole.dst.slice(0, -1), 0x55]);
    }
  });

  it('is not cut if it is a fragment, encrypted or cut short in its extension headers', () => {
    expect(cut(frameOf(segment({ fragment: 0x2000 })), 100, Segmentation.TCP_V4)).toEqual([]);
    expect(cut(frameOf(segment({ fragment: 0x0001 })), 100, Segmentation.TCP_V4)).toEqual([]);
    const payload = noise(300, 1);
    const extension = (type: number) => ({ type, data: [0, 0, 0, 0, 0, 0] });
    const behind = (...types: number[]): number[] =>
      frameOf(segment({ version: 6, extensions: types.map(extension), payload }));
    expect(cut(behind(0, 60), 100, Segmentation.TCP_V6)).toHaveLength(3);
    for (const unreadable of [44, 50, 51, 59, 253]) {
      expect(cut(behind(unreadable), 100, Segmentation.TCP_V6)).toEqual([]);
      expect(cut(behind(0, unreadable), 100, Segmentation.TCP_V6)).toEqual([]);
    }
    const long = behind(0, 60);
    for (const length of [45, 200, 255]) {
      long[14 + 41] = length;
      expect(cut(long, 100, Segmentation.TCP_V6)).toEqual([]);
    }
  });

  it('is dropped if its checksum is finished and wrong, and cut if it is right or the kernel vouches for it', () => {
    for (const fields of [
      { version: 4 },
      { version: 6 },
      { version: 6, extensions: [{ type: 0, data: [1, 4, 0, 0, 0, 0] }] },
      { version: 4, protocol: 17 },
    ] as Partial<Segment>[]) {
      const whole = segment({ ...fields, payload: noise(250, 1) });
      expect((cutBySaying(whole, 100, largeHeader(whole, 100, 0)) as number[][]).map(dissect)).toEqual(
        expected(whole, 100),
      );
      // Not the checksum of these bytes: it has one of its own to be finished.
      const wrong = { ...whole, unfinished: true };
      expect(cutBySaying(wrong, 100, largeHeader(wrong, 100, 0))).toBe('dropped');
      expect((cutBySaying(wrong, 100, largeHeader(wrong, 100, 2)) as number[][]).map(dissect)).toEqual(
        expected(whole, 100),
      );
    }
  });

  it('is dropped if its virtio header has the checksum in another place than its headers', () => {
    const whole = segment({ version: 6, payload: noise(300, 1), unfinished: true });
    const header = largeHeader(whole, 100);
    for (const byte of [6, 7, 8]) {
      const other = header.map((value, i) => (i === byte ? value + 2 : value));
      expect(cutBySaying(whole, 100, other)).toBe('dropped');
    }
  });

  it('is never cut out of less than itself, nor out of garbage', () => {
    const whole = frameOf(segment({ payload: noise(300, 1), unfinished: true }));
    for (let bytes = 0; bytes < whole.length; bytes++) {
      expect(cut(whole.slice(0, bytes), 100, Segmentation.TCP_V4)).toEqual([]);
    }
    fc.assert(
      fc.property(
        fc.integer({ min: 12, max: 60 }),
        fc.integer({ min: 0, max: 255 }),
        fc.constantFrom(0, 1, 2, 3),
        (at, value, shift) => {
          const damaged = [...whole];
          damaged[at] = value;
          for (const piece of cut(damaged, 100, Segmentation.TCP_V4, 500, shift)) {
            expect(piece.length).toBeLessThanOrEqual(500);
          }
        },
      ),
    );
  });
});

describe('an unfinished checksum', () => {
  const headers = new Headers();
  const finished = (packet: readonly number[], shift = 0): number[] => {
    const at = large + shift;
    memory.bytes.set(packet, at);
    expect(headers.parse(memory.view, at, packet.length)).toBe(true);
    finishChecksum(memory.view, at, headers);
    return bytesAt(at, packet.length);
  };

  it('is finished to the one a receiver expects', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.constantFrom(6 as const, 17 as const),
        fc.integer({ min: 0, max: 200 }),
        fc.integer({ min: 0, max: 3 }),
        (fields, protocol, count, shift) => {
          const options = protocol === 6 ? fields.options : [];
          const whole = { ...fields, protocol, options, payload: noise(count, count + 1) };
          // Taken apart, not compared: TCP knows two zeros.
          expect(dissect(finished(frameOf({ ...whole, unfinished: true }), shift))).toEqual(
            dissect(frameOf(whole)),
          );
        },
      ),
    );
  });

  it('of UDP that comes to 0 becomes the other zero', () => {
    const zeros = finished(frameOf(segment({ protocol: 17, payload: [0, 0], unfinished: true })));
    const packet = frameOf(segment({ protocol: 17, payload: zeros.slice(40, 42), unfinished: true }));
    expect(finished(packet).slice(40, 42)).toEqual([0xff, 0xff]);
  });

  it('does not count the padding of a short frame', () => {
    const whole = segment({ payload: [1] });
    const packet = frameOf({ ...whole, unfinished: true });
    expect(finished([...packet, 7, 7, 7])).toEqual([...frameOf(whole), 7, 7, 7]);
  });

  it('is right after an address was changed', () => {
    const packet = frameOf(segment({ unfinished: true }));
    packet[14 + 15] = 200;
    const ipRight = frameOf(segment({ src: [10, 77, 0, 200] }));
    expect(finished(packet).slice(34)).toEqual(ipRight.slice(34));
  });
});

describe('the virtio header', () => {
  const headers = new Headers();
  const header = (flags: number, kind: number, size: number, start: number, offset: number): number[] => {
    const le16 = (value: number): number[] => [value & 255, value >> 8];
    return [flags, kind, ...le16(54), ...le16(size), ...le16(start), ...le16(offset)];
  };
  const read = (head: readonly number[], packet: readonly number[]): number => {
    memory.bytes.set([...head, ...packet], large);
    const at = large + VIRTIO_HEADER_BYTES;
    return readHeader(memory.view, large, at, packet.length, headers);
  };
  const written = (offload: number, packet: readonly number[]): number[] => {
    const at = large + VIRTIO_HEADER_BYTES;
    memory.bytes.set(packet, at);
    headers.parse(memory.view, at, packet.length);
    writeHeader(memory.view, large, offload, headers.l4, headers.check, headers.payload);
    return bytesAt(large, VIRTIO_HEADER_BYTES);
  };

  it('of an ordinary packet says nothing, also if it says that the checksum was verified', () => {
    const packet = frameOf(segment());
    expect(read(header(0, 0, 0, 0, 0), packet)).toBe(0);
    expect(read(header(2, 0, 0, 0, 0), packet)).toBe(0);
    expect(written(0, packet)).toEqual(Array(10).fill(0));
  });

  it('of an unfinished packet names the field, and is the same read and written', () => {
    fc.assert(
      fc.property(headersArbitrary, fc.constantFrom(6 as const, 17 as const), (fields, protocol) => {
        const packet = frameOf({ ...fields, protocol, unfinished: true });
        const l4 = 14 + 4 * fields.vlans.length + (fields.version === 4 ? 20 : 40);
        const head = header(1, 0, 0, l4, protocol === 6 ? 16 : 6);
        const offload = read(head, packet);
        expect(isUnfinished(offload)).toBe(true);
        expect(segmentation(offload)).toBe(0);
        head.splice(2, 2, 0, 0); // the length of the headers is told with large segments only
        expect(written(offload, packet)).toEqual(head);
      }),
    );
  });

  it('of a large segment tells kind and size, and is the same read and written', () => {
    for (const [version, kind] of [[4, 1] as const, [6, 4] as const]) {
      const packet = frameOf(segment({ version, payload: noise(3000, 1), unfinished: true }));
      const head = header(1, kind, 1448, version === 4 ? 34 : 54, 16);
      const offload = read(head, packet);
      expect([segmentation(offload), segmentBytes(offload), isUnfinished(offload)]).toEqual([
        kind,
        1448,
        true,
      ]);
      head[2] = version === 4 ? 54 : 74;
      expect(written(offload, packet)).toEqual(head);
    }
  });

  it('with the ECN bit tells the same kind', () => {
    const packet = frameOf(segment({ flags: ACK | CWR, payload: noise(300, 1), unfinished: true }));
    expect(read(header(1, 0x81, 100, 34, 16), packet)).toBe(offloadWord(100, Segmentation.TCP_V4, true));
  });

  it('has a checksum in an unusual place finished at once', () => {
    // An ICMP message: nothing that Headers knows. No pseudo header, so the field begins as 0.
    const whole = ethernet(ipv4(icmpEcho([1, 2, 3])));
    const open = [...whole];
    open.splice(36, 2, 0, 0);
    expect(read(header(1, 0, 0, 34, 2), open)).toBe(0);
    expect(bytesAt(large + VIRTIO_HEADER_BYTES, whole.length)).toEqual(whole);

    const routed = segment({ ipOptions: [131, 7, 4, 10, 0, 0, 9, 0] });
    expect(read(header(1, 0, 0, 42, 16), frameOf({ ...routed, unfinished: true }))).toBe(0);
    expect(bytesAt(large + VIRTIO_HEADER_BYTES, 65)).toEqual(frameOf(routed));

    fc.assert(
      fc.property(extensionsArbitrary, fc.constantFrom(6 as const, 17 as const), (extensions, protocol) => {
        fc.pre(extensions.length > 0);
        const s = segment({ version: 6, extensions, protocol });
        const start = frameOf(s).length - (protocol === 6 ? 23 : 11);
        const unfinished = frameOf({ ...s, unfinished: true });
        expect(read(header(1, 0, 0, start, protocol === 6 ? 16 : 6), unfinished)).toBe(0);
        // Taken apart, not compared: TCP knows two zeros.
        expect(dissect(bytesAt(large + VIRTIO_HEADER_BYTES, unfinished.length))).toEqual(s);
      }),
    );
  });

  it('that contradicts the packet drops it', () => {
    const packet = frameOf(segment({ unfinished: true }));
    expect(read(header(1, 0, 0, packet.length, 16), packet)).toBe(-1);
    expect(read(header(1, 0, 0, 34, packet.length - 35), packet)).toBe(-1);
    expect(read(header(1, 1, 0, 34, 16), packet)).toBe(-1);
    expect(read(header(1, 0, 0, 0xffff, 0xffff), arp())).toBe(-1);
  });
});

describe('headers', () => {
  it('are found behind VLAN tags and options', () => {
    const headers = new Headers();
    const s = segment({ vlans: [5, 6], ipOptions: Array(8).fill(1), options: Array(12).fill(1), flags: SYN });
    const packet = [...frameOf(s), 0];
    memory.bytes.set(packet, large);
    expect(headers.parse(memory.view, large, packet.length)).toBe(true);
    const { l3, l4, check, payload, end, version, protocol } = headers;
    expect([l3, l4, check, payload, end, version, protocol]).toEqual([22, 50, 66, 82, 85, 4, 6]);
  });

  it('are found behind any number of tags, and not where the frame ends inside one', () => {
    const headers = new Headers();
    const packet = frameOf(segment({ vlans: Array(20).fill(0) }));
    memory.bytes.set(packet, large);
    expect(headers.parse(memory.view, large, packet.length)).toBe(true);
    expect([headers.l3, headers.version]).toEqual([94, 4]);
    expect(headers.parse(memory.view, large, 14 + 79)).toBe(false);
    expect(headers.version).toBe(0);
  });
});
