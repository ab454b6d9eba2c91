/** What a handler orders for its packets, against the frames that a slow model makes of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Dispatch } from '../../../src/datapath/dispatch.ts';
import type { ForwardPort } from '../../../src/datapath/forward.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { DROP, FORWARD, type Handler, PASS, TX } from '../../../src/handler/handler.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { queueCounters, readCounters } from '../../../src/memory/counters.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM, Path, RESERVED } from '../../../src/memory/layout.ts';
import { MetadataBit, ORDERED, TAG_ORDER } from '../../../src/memory/metadata.ts';
import { CHECKSUM_UNFINISHED, offloadWord, Segmentation } from '../../../src/memory/offload.ts';
import { Memory } from '../../../src/memory/shared.ts';
import type { AttachedPath } from '../../../src/paths/attached-path.ts';
import { limitSentBytes } from '../../../src/paths/packet-limit.ts';
import { arp } from '../../support/frames.ts';
import {
  CWR,
  dissect,
  FIN,
  frameOf,
  headersArbitrary,
  noise,
  PSH,
  type Segment,
  segment,
} from '../../support/segments.ts';

const FRAME_SIZE = 4096;
const FRAMES = 512;
const LIMIT = 1518;

/** A packet, where it starts in its frame, and what the handler does with it. */
interface Given {
  readonly bytes: readonly number[];
  readonly at?: number;
  readonly verdict?: number;
  readonly offload?: number;
  readonly tag?: number;
}

/** The frames that leave: by the port, and to the machine's own stack. */
interface Outcome {
  readonly sent: number[][];
  readonly passed: number[][];
  readonly forwarded: number[][];
  readonly counters: Record<string, number>;
  readonly framesLost: number;
}

/** A path that keeps copies and frees the frames at once, for so many packets. */
function keeping(memory: Memory, pool: FramePool, all: number[][], room = FRAMES): AttachedPath {
  let free = room;
  const tx = {
    room: (wanted: number) => Math.min(wanted, free),
    push(offset: number, bytes: number) {
      if (free-- < 1) throw new Error('pushed without room');
      all.push([...memory.bytes.subarray(offset, offset + bytes)]);
      pool.put(offset - memory.layout.frames);
    },
    flush: () => 0,
    complete() {},
  };
  return { path: Path.SYNTHETIC, tx } as unknown as AttachedPath;
}

/** @param options.host of packets of the host, in buffers: gets the lengths of those that are sent uncut */
function run(
  given: readonly Given[],
  options: { metadata?: number; handler?: Handler; room?: number; host?: number[] } = {},
) {
  const { metadata = ORDERED, room } = options;
  const geometry = { pageSize: 4096, ports: 2, queues: 1, ringEntries: 64 };
  const memory = Memory.create({ ...geometry, frameSize: FRAME_SIZE, framesPerWorker: FRAMES });
  for (const port of [0, 1]) limitSentBytes(memory, port, Path.SYNTHETIC, LIMIT);
  const pool = new FramePool(memory, 0);
  pool.owners.recover([]);
  const burst = new Burst(memory, 0);
  burst.metadata = metadata;
  const byDefault: Handler = ({ length, verdict, target, offload, tag }) => {
    for (let i = 0; i < length; i++) {
      const one = given[i]!;
      verdict[i] = one.verdict ?? TX;
      target[i] = 1;
      offload[i] = one.offload ?? 0;
      tag[i] = one.tag ?? 0;
    }
  };
  const forwardTable = { ports: [] as ForwardPort[], relays: [] };
  const errors: unknown[] = [];
  const dispatches = [0, 1].map(
    (port) =>
      new Dispatch({
        ...{ shim: loadShim(), memory, pool, burst, port, queue: 0, forwardTable, metadata },
        failed: (error) => void errors.push(error),
        handler: options.handler ?? byDefault,
        delivery: new DeliverySender(memory, pool, burst, port, 0),
      }),
  );
  forwardTable.ports = dispatches.map(({ forwardPort }) => forwardPort);
  const [sent, passed, forwarded]: number[][][] = [[], [], []];
  const out = keeping(memory, pool, sent!, room);
  const { host } = options;
  if (host !== undefined) {
    Object.assign(out.tx, { sendSegment: (_: number, bytes: number) => host.push(bytes) > 0 });
  }
  dispatches[0]!.out = out;
  dispatches[0]!.host = keeping(memory, pool, passed!);
  dispatches[1]!.out = keeping(memory, pool, forwarded!);
  given.forEach(({ bytes, at = HEADROOM, offload = 0 }, i) => {
    const frame = host ? memory.layout.hostBuffers(0, 0) : dispatches[0]!.takeFrame() - HEADROOM;
    memory.bytes.fill(0xa5, frame, frame + FRAME_SIZE);
    burst.offload[i] = offload; // of the host; else it is cleared
    memory.bytes.set(bytes, frame + at);
    burst.offset[i] = frame + at;
    burst.bytes[i] = bytes.length;
    burst.tag[i] = 0x1ffff; // of an earlier burst
  });
  dispatches[0]!.run(given.length, host ? Path.HOST : Path.SYNTHETIC);
  const counters = readCounters(memory, queueCounters(memory, 0, 0));
  return {
    ...{ sent, passed, forwarded, counters, framesLost: FRAMES - pool.count },
    errors,
  } as Outcome & { errors: unknown[] };
}

const withTag = (frame: readonly number[], tag: number): number[] =>
  tag === 0 ? [...frame] : [...frame.slice(0, 12), 0x81, 0, (tag >> 8) & 255, tag & 255, ...frame.slice(12)];

const kindOf = ({ protocol, version }: Segment): number =>
  protocol === 17 ? Segmentation.UDP : version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;

/** The frames that a packet is cut into, field by field. */
function pieces(whole: Segment, size: number): number[][] {
  const count = Math.max(1, Math.ceil(whole.payload.length / size));
  return Array.from({ length: count }, (_, i) => {
    let { flags } = whole;
    if (i > 0) flags &= ~CWR;
    if (i < count - 1) flags &= ~(FIN | PSH);
    const id = whole.version === 4 ? (whole.id + i) & 0xffff : whole.id;
    const seq = (whole.seq + i * size) >>> 0;
    const payload = whole.payload.slice(i * size, (i + 1) * size);
    return frameOf({ ...whole, flags, id, seq, payload, unfinished: false });
  });
}

/** The packet with wrong checksums in all places that the port has to write. */
function spoilt(s: Segment): number[] {
  const frame = frameOf(s);
  const l3 = 14 + 4 * s.vlans.length;
  const l4 = l3 + (s.version === 4 ? 20 + s.ipOptions.length : 40);
  const check = l4 + (s.protocol === 6 ? 16 : 6);
  frame[check] = frame[check]! ^ 0x5a;
  if (s.version === 4) frame[l3 + 10] = frame[l3 + 10]! ^ 0xa5;
  return frame;
}

const tagArbitrary = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 0, max: 0xffff }).map((tci) => TAG_ORDER | tci),
);

const packetArbitrary = fc.record({
  headers: headersArbitrary,
  protocol: fc.constantFrom(6 as const, 17 as const),
  bytes: fc.integer({ min: 0, max: 2800 }),
  flags: fc.constantFrom(0x10, 0x10 | PSH, 0x10 | FIN | PSH, 0x10 | CWR),
  seed: fc.nat(),
  size: fc.integer({ min: 100, max: 1400 }),
  order: fc.constantFrom('nothing', 'checksum', 'segments'),
  tag: tagArbitrary,
  verdict: fc.constantFrom(TX, TX, TX, FORWARD, PASS, DROP),
});

describe('what a handler orders for its packets', () => {
  it('leaves the frames that a model makes, in the order of the packets, for any orders and verdicts', () => {
    fc.assert(
      fc.property(fc.array(packetArbitrary, { minLength: 1, maxLength: 40 }), (packets) => {
        const models: Record<number, number[][]> = { [TX]: [], [FORWARD]: [], [PASS]: [], [DROP]: [] };
        const given = packets.map(({ headers, protocol, bytes, flags, seed, size, order, tag, verdict }) => {
          const options = protocol === 6 ? headers.options : [];
          const count = order === 'segments' ? bytes : Math.min(bytes, 1300);
          const s = { ...headers, protocol, options, flags, payload: noise(count, seed) };
          const frames = order === 'segments' ? pieces(s, size) : [frameOf(s)];
          models[verdict]!.push(...frames.map((frame) => withTag(frame, tag)));
          const offload =
            order === 'nothing'
              ? 0
              : order === 'checksum'
                ? CHECKSUM_UNFINISHED
                : offloadWord(size, kindOf(s), true);
          return { bytes: order === 'nothing' ? frameOf(s) : spoilt(s), verdict, offload, tag };
        });
        const { sent, forwarded, passed, counters, framesLost } = run(given);
        const fits = (frame: number[]): boolean => frame.length <= LIMIT;
        expect(sent).toEqual(models[TX]!.filter(fits));
        expect(forwarded).toEqual(models[FORWARD]!.filter(fits));
        expect(passed).toEqual(models[PASS]!);
        for (const frame of sent) dissect(frame);
        expect(framesLost).toBe(0);
        expect(counters.dropTooLong).toBe(models[TX]!.filter((frame) => !fits(frame)).length);
        const all = sent.length + forwarded.length + passed.length;
        const dropped = Object.entries(counters).reduce(
          (sum, [name, n]) => sum + (/^drop/.test(name) ? n : 0),
          0,
        );
        const refused = models[FORWARD]!.filter((frame) => !fits(frame)).length; // port 1 has counted them
        expect(given.length + counters.segments!).toBe(all + dropped + refused);
      }),
      { numRuns: 150 },
    );
  });

  it('is ignored without metadata, and costs no frame', () => {
    const bytes = spoilt(segment({ payload: noise(200, 1) }));
    const { sent, framesLost } = run([{ bytes, offload: CHECKSUM_UNFINISHED, tag: TAG_ORDER | 7 }], {
      metadata: 0,
    });
    expect([sent, framesLost]).toEqual([[bytes], 0]);
  });

  it('is forgotten with the burst', () => {
    const bytes = frameOf(segment());
    const handler: Handler = ({ verdict }) => void verdict.fill(TX, 0, 1);
    expect(run([{ bytes }], { handler, metadata: MetadataBit.TAG }).sent).toEqual([bytes]);
  });

  it('is inserted at the end of a frame without headroom, and dropped in a frame without any room', () => {
    const tag = TAG_ORDER | 0x6005;
    const bytes = frameOf(segment({ payload: noise(100, 3) }));
    for (const at of [RESERVED, RESERVED + 3, RESERVED + 4, 1001]) {
      expect(run([{ bytes, at, tag }]).sent, `${at}`).toEqual([withTag(bytes, tag)]);
    }
    const full = noise(FRAME_SIZE - RESERVED - 3, 9);
    const { sent, counters, framesLost } = run([{ bytes: full, at: RESERVED, tag }]);
    expect([sent, counters.dropBadOffload, framesLost]).toEqual([[], 1, 0]);
  });

  it('is counted where the packet with its tag is too long, or too short for one', () => {
    const tag = TAG_ORDER | 1;
    const of = (count: number) => [...frameOf(segment()), ...noise(LIMIT, 5)].slice(0, count);
    expect(run([{ bytes: of(LIMIT - 4), tag }]).sent).toEqual([withTag(of(LIMIT - 4), tag)]);
    expect(run([{ bytes: of(LIMIT - 3), tag }]).counters.dropTooLong).toBe(1);
    expect(run([{ bytes: of(13), tag }]).counters.dropBadLength).toBe(1);
  });

  it.each([
    ['a checksum of a packet without one', { bytes: arp(), offload: CHECKSUM_UNFINISHED }],
    ['a checksum of a fragment', { bytes: frameOf(segment({ fragment: 1 })), offload: CHECKSUM_UNFINISHED }],
    [
      'segments of the wrong kind',
      { bytes: frameOf(segment()), offload: offloadWord(100, Segmentation.UDP, true) },
    ],
    [
      'segments of a packet that is cut off',
      {
        bytes: frameOf(segment({ payload: noise(300, 2) })).slice(0, 200),
        offload: offloadWord(100, Segmentation.TCP_V4, true),
      },
    ],
  ])('drops and counts what asks for %s, and sends those around it', (_, wrong) => {
    const bytes = frameOf(segment({ payload: noise(50, 4) }));
    const { sent, counters, framesLost } = run([{ bytes }, wrong, { bytes }]);
    expect([sent, counters.dropBadOffload, framesLost]).toEqual([[bytes, bytes], 1, 0]);
  });

  it('is not carried out for a packet whose handler throws', () => {
    const bytes = spoilt(segment({ payload: noise(3000, 4) }));
    const handler: Handler = (burst) => {
      const packet = burst.packet(0);
      packet.offload = offloadWord(1000, Segmentation.TCP_V4, true);
      burst.verdict[0] = TX;
      throw new Error('as told');
    };
    const { sent, counters, framesLost } = run([{ bytes }], { handler });
    expect([sent, counters.dropHandlerError, counters.segments, framesLost]).toEqual([[], 1, 0, 0]);
  });

  it('is refused by name, if the port has no such metadata', () => {
    const bytes = frameOf(segment());
    const handler: Handler = (burst) => burst.packet(0).insertTag(5);
    const { errors, counters } = run([{ bytes }], { handler, metadata: MetadataBit.OFFLOAD });
    expect(counters.dropHandlerError).toBe(1);
    expect(`${errors[0]}`).toContain("the port has no metadata 'tag'");
  });
});

describe('a packet of the host, which is in a buffer', () => {
  /** What leaves of one such packet, after the handler has ordered something; segments leave uncut where they may. */
  function runHost(bytes: readonly number[], left: number, order: { offload?: number; tag?: number }) {
    const uncut: number[] = [];
    const handler: Handler = (burst) => {
      const packet = burst.packet(0);
      if (order.offload !== undefined) packet.offload = order.offload;
      if (order.tag !== undefined) packet.insertTag(order.tag);
      burst.verdict[0] = TX;
    };
    return { ...run([{ bytes, offload: left }], { handler, host: uncut }), uncut };
  }
  const s = segment({ payload: noise(3000, 8) });
  const word = offloadWord(1000, Segmentation.TCP_V4, true);

  it('leaves uncut without an order, and cut with the tag in each frame with one', () => {
    const bytes = frameOf({ ...s, unfinished: true });
    const plain = runHost(bytes, word, {});
    expect([plain.sent, plain.uncut]).toEqual([[], [bytes.length]]);
    const tagged = runHost(bytes, word, { tag: 5 });
    expect(tagged.sent).toEqual(pieces(s, 1000).map((frame) => withTag(frame, 5)));
    expect([tagged.uncut, tagged.framesLost]).toEqual([[], 0]);
  });

  it('is finished, with the checksum of its IPv4 header too', () => {
    const small = segment({ payload: noise(100, 8) });
    const { sent } = runHost(spoilt(small), 0, { offload: CHECKSUM_UNFINISHED, tag: 7 });
    expect(sent).toEqual([withTag(frameOf(small), 7)]);
  });

  it('is dropped and counted if its order does not fit it', () => {
    const { sent, counters, framesLost } = runHost(arp(), 0, { offload: CHECKSUM_UNFINISHED });
    expect([sent, counters.dropBadOffload, framesLost]).toEqual([[], 1, 0]);
  });
});

describe('a packet that a handler makes', () => {
  const s = segment({ payload: noise(3000, 8), flags: 0x10 | PSH | FIN });
  const tag = TAG_ORDER | 0x2064;
  const making =
    (frame: readonly number[], order: (packet: ReturnType<Burst['packet']>) => void): Handler =>
    (burst) => {
      const whether = burst.send(frame.length, (packet) => {
        packet.write(0, Uint8Array.from(frame));
        order(packet);
      });
      // The answer to the caller, as a packet to the machine.
      burst.verdict[0] = whether ? PASS : DROP;
    };
  const trigger = { bytes: frameOf(segment()) };

  it('is finished, tagged and cut without metadata', () => {
    const handler = making(spoilt(s), (packet) => {
      packet.offload = offloadWord(1000, Segmentation.TCP_V4, true);
      packet.insertTag(tag);
    });
    const { sent, passed, counters, framesLost } = run([trigger], { handler, metadata: 0 });
    expect(sent).toEqual(pieces(s, 1000).map((frame) => withTag(frame, tag)));
    expect([passed.length, counters.sent, counters.segments, framesLost]).toEqual([1, 1, 2, 0]);
  });

  it('is sent with all of its frames or not at all', () => {
    const handler = making(spoilt(s), (packet) => {
      packet.offload = offloadWord(1000, Segmentation.TCP_V4, true);
    });
    const { sent, passed, counters, framesLost } = run([trigger], { handler, metadata: 0, room: 2 });
    expect([sent, passed, counters.sendRefused, counters.sent, framesLost]).toEqual([[], [], 1, 0, 0]);
  });

  it('is refused and counted if its order does not fit it', () => {
    const handler = making(arp(), (packet) => {
      packet.offload = CHECKSUM_UNFINISHED;
    });
    const { sent, counters, framesLost } = run([trigger], { handler, metadata: 0 });
    expect([sent, counters.sendRefused, counters.sent, framesLost]).toEqual([[], 1, 0, 0]);
  });

  it('has no order of the packet made before it', () => {
    const small = frameOf(segment());
    const handler: Handler = (burst) => {
      burst.send(small.length, (packet) => {
        packet.write(0, Uint8Array.from(small));
        packet.insertTag(9);
      });
      burst.send(small.length, (packet) => packet.write(0, Uint8Array.from(small)));
    };
    expect(run([trigger], { handler, metadata: 0 }).sent).toEqual([withTag(small, 9), small]);
  });
});
