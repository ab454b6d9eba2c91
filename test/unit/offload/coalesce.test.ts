/** Merging TCP segments: what is merged, what comes of it, and that nothing is lost, hidden or reordered. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHECKSUM_UNFINISHED, offloadWord, Segmentation } from '../../../src/memory/offload.ts';
import { Coalescer, MAX_SEGMENTS } from '../../../src/offload/coalesce.ts';
import { Segmenter } from '../../../src/offload/segment.ts';
import { arp, ethernet, icmpEcho, ipv4 } from '../../support/frames.ts';
import {
  ACK,
  be32,
  CWR,
  dissect,
  ECE,
  FIN,
  finished,
  frameOf,
  headersArbitrary,
  noise,
  PSH,
  RST,
  roomyMemory,
  type Segment,
  SYN,
  segment,
  URG,
} from '../../support/segments.ts';

const { memory, large, frames } = roomyMemory();
const FRAME_BYTES = 4096;
const ROOM = 256;
const CAPACITY = 256;
const coalescer = new Coalescer(memory, CAPACITY);

interface Chain {
  /** Which packets are in it. */
  packets: number[];
  virtio: number[];
  /** Its entries one after the other, as writev would hand them over. */
  frame: number[];
}

function results(count: number): Chain[] {
  const { first, entryOffset, entryBytes } = coalescer;
  return Array.from({ length: count }, (_, c) => {
    const entries = Array.from({ length: first[c + 1]! - first[c]! }, (_, k) => first[c]! + k);
    const bytes = entries.flatMap((e) => [
      ...memory.bytes.subarray(entryOffset[e], entryOffset[e]! + entryBytes[e]!),
    ]);
    return {
      packets: entries.map((e) => Math.floor((entryOffset[e]! - frames) / FRAME_BYTES)),
      virtio: bytes.slice(0, 10),
      frame: bytes.slice(10),
    };
  });
}

function coalesced(packets: readonly (readonly number[])[], shift = 0): Chain[] {
  packets.forEach((packet, i) => {
    const at = frames + i * FRAME_BYTES + ROOM + shift;
    memory.bytes.fill(0xee, at - 10, at);
    memory.bytes.set(packet, at);
    expect(coalescer.add(at, packet.length, 0)).toBe(true);
  });
  return results(coalescer.close());
}

const groups = (chains: readonly Chain[]): number[][] => chains.map(({ packets }) => packets);

/** The segment of a chain, with its checksum finished where the virtio header asks for that. */
function whole({ virtio, frame }: Chain): Segment {
  const [flags, , , , , , start, , check] = virtio;
  return dissect(flags === 1 ? finished(frame, start!, start! + check!) : frame);
}

/** Adds an offload-free header to a packet that must come out as it went in. */
const untouched = (packet: readonly number[], which: number): Chain => ({
  packets: [which],
  virtio: Array(10).fill(0),
  frame: [...packet],
});

/** The segments that a large one was sent as. */
function train(whole: Segment, size: number): Segment[] {
  return Array.from({ length: Math.ceil(whole.payload.length / size) }, (_, i) => {
    const payload = whole.payload.slice(i * size, (i + 1) * size);
    const last = (i + 1) * size >= whole.payload.length;
    const flags = last ? whole.flags : whole.flags & ~(PSH | FIN);
    return { ...whole, id: (whole.id + i) & 0xffff, seq: (whole.seq + i * size) >>> 0, flags, payload };
  });
}

/** Four segments of 100 bytes. */
const four = (fields: Partial<Segment> = {}): Segment[] =>
  train(segment({ ...fields, payload: noise(400, 5) }), 100);

const large16 = (value: number): number[] => [value & 255, value >> 8];

describe('a train of segments', () => {
  it('becomes the one segment that it was cut from, with a checksum to be finished', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.constantFrom(ACK, ACK | PSH, ACK | FIN, ACK | PSH | FIN | ECE),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 2, max: 12 }),
        fc.integer({ min: 0, max: 299 }),
        fc.integer({ min: 0, max: 3 }),
        (headers, flags, size, count, missing, shift) => {
          const payload = noise(size * count - (missing % size), count);
          const sent = { ...headers, flags, payload };
          const [chain, ...others] = coalesced(train(sent, size).map(frameOf), shift);
          expect(others).toEqual([]);
          expect(whole(chain!)).toEqual(sent);
          const { version, vlans, options } = sent;
          const start = 14 + 4 * vlans.length + (version === 4 ? 20 : 40);
          const sizes = [...large16(start + 20 + options.length), ...large16(size)];
          expect(chain!.virtio).toEqual([1, version === 4 ? 1 : 4, ...sizes, ...large16(start), 16, 0]);
        },
      ),
    );
  });

  it('made by the segmenter comes back as what it cut', () => {
    const segmenter = new Segmenter(memory);
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.integer({ min: 100, max: 1500 }),
        fc.integer({ min: 1, max: 20_000 }),
        (headers, size, bytes) => {
          const sent = { ...headers, flags: ACK | PSH, payload: noise(bytes, size) };
          const packet = frameOf({ ...sent, unfinished: true });
          memory.bytes.set(packet, large);
          const kind = sent.version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;
          const offload = offloadWord(size, kind, true);
          const count = segmenter.begin(large, packet.length, offload, FRAME_BYTES - ROOM);
          for (let i = 0; i < count; i++) {
            const target = frames + i * FRAME_BYTES + ROOM;
            coalescer.add(target, segmenter.write(i, target), 0);
          }
          const chains = results(coalescer.close());
          const rebuilt = chains.map(whole);
          expect(rebuilt.flatMap(({ payload }) => payload)).toEqual(sent.payload);
          expect(chains).toHaveLength(Math.ceil(count / MAX_SEGMENTS));
          if (chains.length === 1) expect(rebuilt[0]).toEqual(sent);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('grows up to what an IPv4 header can say', () => {
    const sent = segment({ payload: noise(1448 * 46, 3), options: Array(12).fill(1) });
    const chains = coalesced(train(sent, 1448).map(frameOf));
    expect(groups(chains).map((packets) => packets.length)).toEqual([45, 1]);
    expect(whole(chains[0]!).payload).toEqual(sent.payload.slice(0, 45 * 1448));

    const exact = segment({ payload: noise(65_535 - 40, 3) });
    expect(coalesced(train(exact, 3277).map(frameOf))).toHaveLength(1);
    const over = segment({ payload: noise(65_535 - 39, 3) });
    expect(coalesced(train(over, 3277).map(frameOf))).toHaveLength(2);
  });

  it('grows up to the entries of a writev', () => {
    const chains = coalesced(train(segment({ payload: noise(MAX_SEGMENTS + 2, 3) }), 1).map(frameOf));
    expect(groups(chains).map((packets) => packets.length)).toEqual([MAX_SEGMENTS, 2]);
  });

  it('ends with a shorter segment, a PSH or a FIN', () => {
    for (const change of [{ payload: [1, 2, 3] }, { flags: ACK | PSH }, { flags: ACK | FIN }]) {
      const segments = four();
      segments[1] = { ...segments[1]!, ...change };
      expect(groups(coalesced(segments.map(frameOf)))[0]).toEqual([0, 1]);
    }
    const pushed = four();
    pushed[0] = { ...pushed[0]!, flags: ACK | PSH };
    expect(groups(coalesced(pushed.map(frameOf)))).toEqual([[0], [1, 2, 3]]);
  });

  it('is joined across the end of the sequence numbers, and not by what differs from it', () => {
    const strange: [string, Partial<Segment>][] = [
      ['SYN', { flags: ACK | SYN }],
      ['RST', { flags: ACK | RST }],
      ['URG', { flags: ACK | URG }],
      ['CWR', { flags: ACK | CWR }],
      ['ECE', { flags: ACK | ECE }],
      ['no ACK', { flags: 0 }],
      ['acknowledgement', { ack: 78 }],
      ['window', { window: 500 }],
      ['options', { options: [1, 1, 1, 1] }],
      ['TTL', { ttl: 63 }],
      ['TOS', { tos: 1 }],
      ['DF', { fragment: 0 }],
      ['fragment', { fragment: 0x2000 }],
      ['IP options', { ipOptions: [1, 1, 1, 1] }],
      ['extension headers', { extensions: [{ type: 60, data: [1, 4, 0, 0, 0, 0] }] }],
      ['VLAN', { vlans: [5] }],
      ['length', { payload: noise(101, 1) }],
      ['no payload', { payload: [] }],
      ['gap', { seq: 1101 }],
      ['overlap', { seq: 1099 }],
    ];
    for (const version of [4, 6] as const) {
      for (const [name, change] of strange) {
        if ((version === 6 ? /DF|fragment|IP options/ : /extension/).test(name)) continue;
        const segments = four({ version });
        segments[1] = { ...segments[1]!, ...change };
        const chains = groups(coalesced(segments.map(frameOf)));
        expect([name, chains]).toEqual([name, [[0], [1], [2, 3]]]);
      }
    }
    const stamped = four({ options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] });
    stamped[1] = { ...stamped[1]!, options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 3] };
    expect(groups(coalesced(stamped.map(frameOf)))).toEqual([[0], [1], [2, 3]]);
    const tagged = four({ vlans: [5] });
    tagged[1] = { ...tagged[1]!, vlans: [0x2005] }; // the same VLAN, another priority
    expect(groups(coalesced(tagged.map(frameOf)))).toEqual([[0], [1], [2, 3]]);
    const wrapping = four({ seq: 0xffff_ff80 });
    expect(groups(coalesced(wrapping.map(frameOf)))).toEqual([[0, 1, 2, 3]]);
    const changed = four().map(frameOf);
    changed[1]![11] = 0x77; // another source MAC address
    expect(groups(coalesced(changed))).toEqual([[0], [1], [2, 3]]);
  });

  it('is not joined by a frame with padding, nor by one whose IPv4 checksum is wrong', () => {
    const padded = four().map(frameOf);
    padded[1]!.push(0);
    expect(groups(coalesced(padded))).toEqual([[0], [1], [2, 3]]);
    for (const which of [0, 1]) {
      const damaged = four().map(frameOf);
      damaged[which]![14 + 10]! ^= 1;
      expect(groups(coalesced(damaged))[which]).toEqual([which]);
    }
  });

  it('behind options or extension headers of IP passes in single packets', () => {
    for (const fields of [
      { ipOptions: [1, 1, 1, 1] },
      { version: 6, extensions: [{ type: 0, data: [1, 4, 0, 0, 0, 0] }] },
    ] as Partial<Segment>[]) {
      const packets = four(fields).map(frameOf);
      expect(coalesced(packets)).toEqual(packets.map(untouched));
    }
  });

  it('needs IPv4 identifications that count up unless DF makes them meaningless', () => {
    const same = (fragment: number): Segment[] => four({ fragment }).map((s) => ({ ...s, id: 9 }));
    expect(groups(coalesced(same(0x4000).map(frameOf)))).toEqual([[0, 1, 2, 3]]);
    expect(groups(coalesced(same(0).map(frameOf)))).toEqual([[0], [1], [2], [3]]);
    expect(groups(coalesced(four({ fragment: 0, id: 0xfffe }).map(frameOf)))).toEqual([[0, 1, 2, 3]]);
  });

  it('keeps its bytes apart from the packets of others in between', () => {
    const other = ethernet(ipv4(icmpEcho([1])));
    const [a, b, c, d] = four().map(frameOf);
    const chains = coalesced([a!, other, b!, arp(), c!, frameOf(segment({ protocol: 17 })), d!]);
    expect(groups(chains)).toEqual([[0, 2, 4, 6], [1], [3], [5]]);
    expect(chains[1]!.frame).toEqual(other);
  });

  it('does not overtake a fragment that may be its own', () => {
    const fragment = ethernet(ipv4(noise(100, 1), { protocol: 6, fragment: 0x2001 }));
    const [a, b, c, d] = four().map(frameOf);
    expect(groups(coalesced([a!, b!, fragment, c!, d!]))).toEqual([[0, 1], [2], [3, 4]]);
    const extended = frameOf(segment({ version: 6 }));
    extended[14 + 6] = 44; // fragment header
    expect(groups(coalesced([a!, b!, extended, c!, d!]))).toEqual([[0, 1], [2], [3, 4]]);
  });
});

describe('damage', () => {
  it('in any byte of any payload leaves that packet alone, as it came, and the others whole', () => {
    const segments = train(segment({ payload: noise(44, 9) }), 11);
    segments.forEach((_, which) => {
      const frame = frameOf(segments[which]!);
      for (let at = 54; at < frame.length; at++) {
        const packets = segments.map(frameOf);
        packets[which]![at]! ^= 1 << (at % 8);
        const chains = coalesced(packets);
        const others = [[0, 1, 2, 3].slice(0, which), [0, 1, 2, 3].slice(which + 1)];
        expect(groups(chains)).toEqual([others[0], [which], others[1]].filter((some) => some!.length > 0));
        for (const chain of chains) {
          if (chain.packets[0] === which) expect(chain).toEqual(untouched(packets[which]!, which));
          else {
            const parts = chain.packets.flatMap((i) => segments[i]!.payload);
            expect(whole(chain).payload).toEqual(parts);
          }
        }
      }
    });
  });

  it('that a receiver would have seen is left for it to see, wherever it is', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.integer({ min: 1, max: 30 }),
        fc.nat(),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 }),
        (headers, size, which, changes) => {
          const damaged = which % 4;
          const segments = train({ ...headers, flags: ACK, payload: noise(size * 4, 1) }, size);
          const packets = segments.map(frameOf);
          const packet = packets[damaged]!;
          for (const [where, bits] of changes) packet[14 + (where % (packet.length - 14))]! ^= bits;
          let seen = false;
          try {
            dissect(packet);
          } catch {
            seen = true;
          }
          fc.pre(seen);
          const chains = coalesced(packets);
          expect(chains.find(({ packets }) => packets.includes(damaged))).toEqual(untouched(packet, damaged));
          // Nothing is lost of the others, and what is left says whether it is right.
          const others = chains.filter(({ packets }) => packets[0] !== damaged);
          expect(others.flatMap((chain) => whole(chain).payload)).toEqual(
            segments.flatMap(({ payload }, i) => (i === damaged ? [] : payload)),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  it('that makes the TCP header an extension header, up to the last byte, is a packet that passes alone', () => {
    // The source port becomes the next header and its length, which ends where the packet does.
    const segments = train(segment({ version: 6, from: 0x3c02, payload: noise(16, 1) }), 4);
    const packets = segments.map(frameOf);
    for (const extension of [0, 43, 44, 50, 51, 60, 135, 139, 140, 253, 255]) {
      const damaged = [...packets[1]!];
      damaged[14 + 6] = extension;
      expect(() => dissect(damaged)).toThrow('no extension');
      const chains = coalesced([packets[0]!, damaged, packets[2]!, packets[3]!]);
      expect(chains.find(({ packets }) => packets.includes(1))).toEqual(untouched(damaged, 1));
    }
  });

  it('of several packets, also of the first and of neighbours, is kept apart from what is whole', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4 as const, 6 as const),
        fc.array(fc.boolean(), { minLength: 2, maxLength: 20 }),
        fc.nat(99),
        (version, damaged, where) => {
          const sent = segment({ version, payload: noise(100 * damaged.length, 2) });
          const packets = train(sent, 100).map(frameOf);
          const headerBytes = packets[0]!.length - 100;
          packets.forEach((packet, i) => {
            if (damaged[i]) packet[headerBytes + where]! ^= 0x40;
          });
          const expected: number[][] = [];
          damaged.forEach((is, i) => {
            if (is || i === 0 || damaged[i - 1]) expected.push([i]);
            else expected.at(-1)!.push(i);
          });
          expect(groups(coalesced(packets))).toEqual(expected);
        },
      ),
    );
  });

  it('of an unfinished checksum, whose field holds another sum, is not taken for one that is right', () => {
    for (const version of [4, 6] as const) {
      const packets = four({ version, unfinished: true }).map(frameOf);
      expect(coalesced(packets)).toEqual(packets.map(untouched));
    }
  });

  it('that exchanges two words of the data goes unseen, as by every receiver, and is passed on as it is', () => {
    const packets = four().map(frameOf);
    const swapped = packets[1]!;
    swapped.splice(54, 4, ...swapped.slice(56, 58), ...swapped.slice(54, 56));
    const [chain] = coalesced(packets);
    expect(chain!.packets).toEqual([0, 1, 2, 3]);
    expect(whole(chain!).payload.slice(100, 104)).toEqual(swapped.slice(54, 58));
  });
});

describe('a chain that is split again', () => {
  it('comes out as the packets that were merged, byte for byte', () => {
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.constantFrom(ACK, ACK | PSH, ACK | FIN | PSH | ECE),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 0, max: 299 }),
        (headers, flags, size, count, missing) => {
          const payload = noise(size * count - (missing % size), count);
          const packets = train({ ...headers, flags, payload }, size).map(frameOf);
          const chains = coalesced([...packets, arp()]).length;
          for (let c = 0; c < chains; c++) coalescer.split(c);
          const { first, entryOffset, entryBytes } = coalescer;
          const alone = Array.from({ length: first[chains]! }, (_, entry): Chain => {
            const at = entryOffset[entry]!;
            const bytes = [...memory.bytes.subarray(at, at + entryBytes[entry]!)];
            const which = Math.floor((at - frames) / FRAME_BYTES);
            return { packets: [which], virtio: bytes.slice(0, 10), frame: bytes.slice(10) };
          });
          expect(alone).toEqual([...packets, arp()].map(untouched));
        },
      ),
    );
  });

  it('leaves others as they are, and a packet that passes alone with what its header asks for', () => {
    const packets = [...four({ from: 1 }), ...four({ from: 2 })].map(frameOf);
    const before = coalesced(packets);
    coalescer.split(0);
    expect(results(2)[1]).toEqual(before[1]);
    const unfinished = frameOf(segment({ unfinished: true }));
    memory.bytes.set(unfinished, frames + ROOM);
    coalescer.add(frames + ROOM, unfinished.length, CHECKSUM_UNFINISHED);
    const [alone] = results(coalescer.close());
    coalescer.split(0);
    expect(results(1)).toEqual([alone]);
    expect(alone!.virtio[0]).toBe(1);
  });
});

/** Rules of merging, said slowly: which packets come out together. At most eight flows. */
function model(segments: readonly Segment[]): number[][] {
  const chains: number[][] = [];
  const open = new Map<number, number[]>();
  segments.forEach((s, i) => {
    const whole = s.fragment !== 0x2000;
    const plain = whole && s.payload.length > 0 && (s.flags & ~(ACK | PSH | FIN)) === 0;
    const ends = (s.flags & (PSH | FIN)) !== 0;
    const chain = open.get(s.from);
    if (chain !== undefined && plain) {
      const head = segments[chain[0]!]!;
      const last = segments[chain.at(-1)!]!;
      const next = last.seq + last.payload.length === s.seq && s.ack === head.ack;
      if (next && s.payload.length <= head.payload.length) {
        chain.push(i);
        if (ends || s.payload.length < head.payload.length) open.delete(s.from);
        return;
      }
    }
    if (whole) open.delete(s.from);
    else open.clear();
    const fresh = [i];
    chains.push(fresh);
    if (plain && !ends) open.set(s.from, fresh);
  });
  return chains;
}

describe('flows', () => {
  /** What a flow does next. Most of it is the next segment of ten bytes. */
  const step = fc.record({
    flow: fc.integer({ min: 0, max: 2 }),
    kind: fc.constantFrom(
      'next',
      'next',
      'next',
      'next',
      'short',
      'push',
      'fin',
      'ack',
      'gap',
      'rst',
      'fragment',
    ),
  });

  it('interleaved at random are merged by the rules, lose nothing and are never reordered', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const sequence = [1000, 2000, 3000];
        const acknowledged = [1, 1, 1];
        const segments = steps.map(({ flow, kind }, i) => {
          if (kind === 'gap') sequence[flow]! += 10;
          if (kind === 'ack') acknowledged[flow]! += 1;
          const payload = noise(kind === 'ack' ? 0 : kind === 'short' ? 7 : 10, i);
          const flags = ACK | (kind === 'push' ? PSH : kind === 'fin' ? FIN : kind === 'rst' ? RST : 0);
          const seq = sequence[flow]!;
          sequence[flow]! += payload.length;
          const fragment = kind === 'fragment' ? 0x2000 : 0x4000;
          return segment({ from: 100 + flow, seq, ack: acknowledged[flow]!, flags, payload, fragment });
        });
        const chains = coalesced(segments.map(frameOf));

        expect(groups(chains)).toEqual(model(segments));
        const out = chains.flatMap(({ packets }) => packets);
        for (const flow of [0, 1, 2]) {
          const own = steps.flatMap((s, i) => (s.flow === flow ? [i] : []));
          expect(out.filter((i) => steps[i]!.flow === flow)).toEqual(own);
          const sent = own.flatMap((i) => segments[i]!.payload);
          const received = chains
            .filter(({ packets }) => steps[packets[0]!]!.flow === flow)
            .flatMap((chain) => whole(chain).payload);
          expect(received).toEqual(sent);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('beyond the eight that are followed at once stay in order too', () => {
    const flows = 11;
    const trains = Array.from({ length: flows }, (_, flow) => four({ from: flow }));
    const inTurn = [0, 1, 2, 3].flatMap((i) => trains.map((segments) => segments[i]!));
    const chains = coalesced(inTurn.map(frameOf));
    const out = chains.flatMap(({ packets }) => packets);
    expect([...out].sort((a, b) => a - b)).toEqual(inTurn.map((_, i) => i));
    for (let flow = 0; flow < flows; flow++) {
      expect(out.filter((i) => i % flows === flow)).toEqual([0, 1, 2, 3].map((i) => i * flows + flow));
    }
    // Eight in turn all grow.
    const eight = [0, 1, 2, 3].flatMap((i) => trains.slice(0, 8).map((segments) => segments[i]!));
    expect(coalesced(eight.map(frameOf))).toHaveLength(8);
  });

  it('of one hash are told apart', () => {
    const step = (hash: number): number => Math.imul(hash, 0x01000193);
    const [source, destination] = [0x0a4d0001, 0x0a4d0002];
    const [ports, otherPorts] = [(40_000 << 16) | 7, (40_001 << 16) | 7];
    const one = four();
    const twins = [
      // A source address that makes up for another port, and a destination that makes up for another source.
      four({ from: 40_001, src: be32(source ^ step(ports) ^ step(otherPorts)) }),
      four({
        src: be32(source + 1),
        dst: be32(destination ^ step(step(ports) ^ source) ^ step(step(ports) ^ (source + 1))),
      }),
    ];
    for (const two of twins) {
      const chains = coalesced([one[0]!, two[1]!, one[1]!, two[2]!].map(frameOf));
      expect(groups(chains)).toEqual([[0], [1], [2], [3]]);
    }
  });
});

describe('what cannot be merged', () => {
  it('passes alone, byte for byte, at every length', () => {
    for (const one of [four()[0]!, four({ version: 6 })[0]!, four({ vlans: [1, 2] })[0]!]) {
      const frame = frameOf(one);
      for (let bytes = 0; bytes < frame.length; bytes++) {
        const cut = frame.slice(0, bytes);
        const chains = coalesced([cut, cut]);
        expect(groups(chains)).toEqual([[0], [1]]);
        expect(chains[1]).toEqual({ packets: [1], virtio: Array(10).fill(0), frame: cut });
      }
    }
  });

  it('passes alone if it is garbage', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }),
        fc.constantFrom(0x0800, 0x86dd, 0x8100),
        fc.boolean(),
        (all, type, typed) => {
          const packets = all.map((bytes) => (typed ? ethernet([...bytes], { type }) : [...bytes]));
          const chains = coalesced(packets);
          expect(chains.map(({ frame }) => frame)).toEqual(packets);
        },
      ),
    );
  });

  it('passes alone with its offload word in the header', () => {
    const put = (packet: readonly number[], i: number, offload: number): boolean => {
      memory.bytes.set(packet, frames + i * FRAME_BYTES + ROOM);
      return coalescer.add(frames + i * FRAME_BYTES + ROOM, packet.length, offload);
    };
    const segments = four();
    const unfinished = frameOf({ ...segments[1]!, unfinished: true });
    expect(put(frameOf(segments[0]!), 0, 0)).toBe(true);
    expect(put(unfinished, 1, CHECKSUM_UNFINISHED)).toBe(true);
    expect(put(frameOf(segments[2]!), 2, 0)).toBe(true);
    expect(put(frameOf(segment({ protocol: 17, unfinished: true })), 3, CHECKSUM_UNFINISHED)).toBe(true);
    expect(put(arp(), 4, CHECKSUM_UNFINISHED)).toBe(false);
    const chains = results(coalescer.close());
    expect(groups(chains)).toEqual([[0], [1], [2], [3]]);
    expect(chains[1]!.virtio).toEqual([1, 0, 0, 0, 0, 0, 34, 0, 16, 0]);
    expect(chains[1]!.frame).toEqual(unfinished);
    expect(chains[3]!.virtio).toEqual([1, 0, 0, 0, 0, 0, 34, 0, 6, 0]);
  });
});

describe('a coalescer', () => {
  it('takes no more than its capacity, and begins anew after close', () => {
    const small = new Coalescer(memory, 2);
    const at = frames + ROOM;
    memory.bytes.set(arp(), at);
    expect([small.add(at, 42, 0), small.add(at, 42, 0), small.add(at, 42, 0)]).toEqual([true, true, false]);
    expect(small.close()).toBe(2);
    expect(small.close()).toBe(0);
    expect(small.add(at, 42, 0)).toBe(true);
    expect(small.close()).toBe(1);
  });

  it('merges nothing across a close', () => {
    const [a, b] = four().map(frameOf);
    expect(coalesced([a!])).toHaveLength(1);
    expect(groups(coalesced([b!]))).toEqual([[0]]);
  });
});
