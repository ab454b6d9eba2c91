/**
 * Packets of a tap that do not fit a frame, cut into frames: over a real io_uring and with plain reads. The tap is a
 * datagram socket here, of which a read takes one packet just as it does at a tap.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { LongTag } from '../../../src/kernel/programs.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { type PathCounter, pathCounters, queueCounters } from '../../../src/memory/counters.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { BURST, Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { maxSentBytes } from '../../../src/net/packet-size.ts';
import type { AttachedPath } from '../../../src/paths/attached-path.ts';
import { OrphanedUring } from '../../../src/paths/tap/orphaned-uring.ts';
import { PlainQueue } from '../../../src/paths/tap/plain-queue.ts';
import { UringQueue } from '../../../src/paths/tap/uring-queue.ts';
import { be16 } from '../../support/frames.ts';
import { dissect, frameOf, headersArbitrary, noise, type Segment, segment } from '../../support/segments.ts';
import { pair } from '../../support/sockets.ts';

const ADDRESS = { port: 0, queue: 0, path: Path.SYNTHETIC } as const;
const MTU = 1500;
/** What a datagram holds. */
const MAX = 65_507;
const KINDS = ['io_uring', 'read/write'] as const;

const shim = loadShim();
const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) shim.close(fd);
});

class Tap {
  readonly memory: Memory;
  pool: FramePool;
  queue: AttachedPath;
  readonly frames: number;
  readonly #kind: (typeof KINDS)[number];
  readonly #peer: number;
  readonly #burst = { at: 0, offset: new Int32Array(BURST), bytes: new Int32Array(BURST) };

  constructor(
    kind: (typeof KINDS)[number],
    { frames = 256, frameSize = 2048, mtu = MTU, expected = true } = {},
  ) {
    this.#kind = kind;
    this.frames = frames;
    this.memory = Memory.create({
      ...{ pageSize: 4096, ports: 1, queues: 1, frameSize, framesPerWorker: frames, ringEntries: 2048 },
    });
    const [tap, peer] = pair(shim);
    open.push(tap, peer);
    this.#peer = peer;
    const slot = this.memory.slot({ port: 0, queue: 0, path: Path.SYNTHETIC });
    slot.fd = tap;
    slot.maxPacketBytes = maxSentBytes(mtu, frameSize);
    slot.readsLong = expected ? 1 : 0;
    this.pool = new FramePool(this.memory, 0);
    this.pool.owners.recover([]);
    this.queue = this.#open();
  }

  #open(): AttachedPath {
    if (this.#kind === 'read/write') return new PlainQueue(shim, this.memory, this.pool, ADDRESS);
    const opened = UringQueue.open(shim, this.memory, this.pool, ADDRESS);
    if (typeof opened === 'number') throw new Error(`this kernel refuses io_uring: errno ${-opened}`);
    return opened;
  }

  give(frame: readonly number[]): void {
    expect(shim.send(this.#peer, Uint8Array.from(frame), frame.length, 0)).toBe(frame.length);
  }

  /** A burst, in hand until `release`. */
  burst(max: number): number[][] {
    if (this.queue.rx.ready(max) === 0) return [];
    return this.#read(this.queue.rx.receive(this.#burst, max));
  }

  #read(count: number): number[][] {
    return Array.from({ length: count }, (_, i) => {
      const at = this.#burst.offset[i]!;
      return [...this.memory.bytes.subarray(at, at + this.#burst.bytes[i]!)];
    });
  }

  /** Frees what is in hand. */
  release(count: number): void {
    for (let i = 0; i < count; i++) this.pool.put(this.#burst.offset[i]! - this.memory.layout.frames);
    this.queue.rx.release();
    this.queue.tx.complete();
    this.queue.tx.flush();
  }

  /** Everything that comes, in bursts of `max`, until nothing has come for a while. */
  all(max = BURST): number[][] {
    const found: number[][] = [];
    for (let quiet = 0; quiet < 3; ) {
      const burst = this.burst(max);
      found.push(...burst);
      this.release(burst.length);
      quiet = burst.length === 0 ? quiet + 1 : 0;
    }
    return found;
  }

  /** The worker dies; its successor has what was received, as datapath/takeover.ts does. */
  die(): number[][] {
    const { memory } = this;
    this.pool = new FramePool(memory, 0);
    const left = new OrphanedUring(shim, memory, this.pool, ADDRESS);
    this.pool.owners.recover([left]);
    const found: number[][] = [];
    const kept: number[] = [];
    while (left.rx.ready(BURST) > 0) {
      const count = left.rx.receive(this.#burst, BURST);
      found.push(...this.#read(count));
      kept.push(...Array.from(this.#burst.offset.subarray(0, count), (at) => at - memory.layout.frames));
      for (const address of kept) this.pool.setOwner(address, this.pool.hand);
      left.rx.release();
    }
    left.detach();
    this.pool.owners.reclaim(left.tag);
    for (const address of kept) this.pool.put(address);
    this.queue = this.#open();
    return found;
  }

  counted(name: PathCounter): number {
    return this.memory.doubles[pathCounters(this.memory, 0, 0, Path.SYNTHETIC)[name]]!;
  }

  /** Every frame is in one place. */
  audit(): void {
    const { fill, rx, tx, completing } = this.queue.ledger();
    expect(this.pool.count + fill + rx + tx + completing).toBe(this.frames);
    expect(this.pool.owners.duplicates([this.queue])).toBe(0);
  }
}

/** With the tag that the program at the NetVSC puts before all others. */
const tagged = (frame: number[], tci: number): number[] => [
  ...frame.slice(0, 12),
  ...be16(LongTag.TYPE),
  ...be16(tci),
  ...frame.slice(12),
];

/** The payload of all pieces, each of which is right, fits the MTU and is of the same segment but for what differs. */
function expectPieces(frames: readonly number[][], whole: Segment, mtu = MTU): void {
  const pieces = frames.map(dissect);
  const payload: number[] = [];
  pieces.forEach((piece, i) => {
    const last = i === pieces.length - 1;
    const { version, vlans, from, to, ack, options, window, tos, ttl } = whole;
    expect(piece).toMatchObject({ version, vlans, from, to, ack, options, window, tos, ttl });
    expect(piece.seq).toBe((whole.seq + payload.length) >>> 0);
    expect(piece.flags).toBe(last ? whole.flags : whole.flags & ~0x09);
    if (version === 4) expect(piece.id).toBe((whole.id + i) & 0xffff);
    const tags = 4 * Math.max(0, vlans.length - 1);
    expect(frames[i]!.length - 14 - 4 * vlans.length).toBeLessThanOrEqual(mtu - tags);
    payload.push(...piece.payload);
  });
  // Vitest's own comparison of 65,000 numbers takes a hundred times as long.
  if (!Buffer.from(payload).equals(Buffer.from(whole.payload))) expect(payload).toEqual(whole.payload);
}

describe.each(KINDS)('a packet longer than a frame, by %s', (kind) => {
  it('is cut into frames that fit the MTU, for any headers', () => {
    const tap = new Tap(kind);
    let packets = 0;
    fc.assert(
      fc.property(
        headersArbitrary,
        fc.integer({ min: 1800, max: MAX - 150 }),
        fc.constantFrom(0x10, 0x18, 0x11),
        fc.constantFrom(undefined, LongTag.UNVERIFIED, LongTag.VERIFIED),
        (headers, count, flags, tag) => {
          const whole = { ...headers, flags, payload: noise(count, count) };
          const frame = frameOf(whole);
          tap.give(tag === undefined ? frame : tagged(frame, tag));
          expectPieces(tap.all(), whole);
          expect(tap.counted('rxCut')).toBe(++packets);
          tap.audit();
        },
      ),
      { numRuns: 60 },
    );
    expect([tap.counted('rxTooLong'), tap.counted('rxErrors')]).toEqual([0, 0]);
  });

  it.each([1, 7, 64])('comes in order with others, and in bursts of %i', (max) => {
    const tap = new Tap(kind);
    const flow = segment({ seq: 0xffff_ff00 });
    const sent: Segment[] = [];
    let { seq } = flow;
    for (const [i, count] of [100, 9000, 200, 200, 60_000, 30_000, 1, 4000].entries()) {
      const one = { ...flow, id: 50 * i, seq, payload: noise(count, i) };
      tap.give(frameOf(one));
      sent.push(one);
      seq = (seq + count) >>> 0;
    }
    const pieces = tap.all(max).map(dissect);
    seq = flow.seq;
    for (const piece of pieces) {
      expect(piece.seq).toBe(seq);
      seq = (seq + piece.payload.length) >>> 0;
    }
    expect(pieces.flatMap(({ payload }) => payload)).toEqual(sent.flatMap(({ payload }) => payload));
    expect([tap.counted('rxCut'), tap.counted('rxPackets')]).toEqual([4, pieces.length]);
    tap.audit();
  });

  it('waits for frames where fewer are free than it takes', () => {
    const tap = new Tap(kind, { frames: 64 });
    const whole = segment({ payload: noise(60_000, 3) });
    tap.queue.tx.flush();
    const kept: number[] = [];
    while (tap.pool.count > 6) {
      kept.push(tap.pool.peek(0));
      tap.pool.setOwner(tap.pool.peek(0), tap.pool.hand);
      tap.pool.remove(1);
    }
    tap.give(frameOf(whole));
    const found = tap.all();
    expectPieces(found, whole);
    for (const address of kept) tap.pool.put(address);
    tap.audit();
  });

  it.each([
    ['UDP', frameOf(segment({ protocol: 17, payload: noise(5000, 1) }))],
    ['a fragment', frameOf(segment({ fragment: 0x2000, payload: noise(5000, 1) }))],
    [
      'not IP',
      [...frameOf(segment({ payload: noise(5000, 1) })).slice(0, 12), 0x88, 0xcc, ...noise(5000, 2)],
    ],
    ['shorter than its IP header says', frameOf(segment({ payload: noise(5000, 1) })).slice(0, -100)],
    ['damaged', [...frameOf(segment({ payload: noise(5000, 1) })).slice(0, -1), 0x99, 0x99].slice(0, -1)],
  ])('that is %s is dropped and counted', (_, frame) => {
    const tap = new Tap(kind);
    for (const packet of [frame, tagged([...frame], LongTag.UNVERIFIED)]) tap.give(packet);
    const next = segment({ payload: noise(3000, 9) });
    tap.give(frameOf(next));
    expectPieces(tap.all(), next);
    expect([tap.counted('rxTooLong'), tap.counted('rxCut'), tap.counted('rxErrors')]).toEqual([2, 1, 0]);
    tap.audit();
  });

  it('needs no right checksum where its device has verified it', () => {
    const tap = new Tap(kind);
    const whole = segment({ version: 6, payload: noise(20_000, 1) });
    const frame = frameOf(whole);
    frame[14 + 40 + 16]! ^= 0xff;
    tap.give(tagged(frame, LongTag.VERIFIED));
    expectPieces(tap.all(), whole);
    tap.audit();
  });

  it('only because of its tag is not treated as a long packet', () => {
    const tap = new Tap(kind);
    const sent = [1788, 1789, 1790, 1791].map((bytes) =>
      frameOf(segment({ protocol: 17, payload: noise(bytes - 42, bytes) })),
    );
    for (const frame of sent) tap.give(tagged(frame, LongTag.UNVERIFIED));
    expect(tap.all()).toEqual(sent);
    expect([tap.counted('rxTooLong'), tap.counted('rxCut')]).toEqual([0, 0]);
    tap.audit();
  });

  it('fits larger frames and MTUs', () => {
    const tap = new Tap(kind, { frameSize: 4096, mtu: 3800 });
    const whole = segment({ payload: noise(60_000, 1) });
    tap.give(frameOf(whole));
    const found = tap.all();
    expect(found).toHaveLength(Math.ceil(60_000 / 3760));
    expectPieces(found, whole, 3800);
    tap.audit();
  });
});

describe('a long packet of a worker that dies', () => {
  const flow = { seq: 7000 };

  it.each([
    ['that comes alone', []],
    ['in a lot', [1448, 1448, 1448]],
  ])('is received to its end by the next, once: %s', (_, before) => {
    const arrange = (): { tap: Tap; whole: Segment; first: number[][] } => {
      const tap = new Tap('io_uring');
      tap.all();
      let { seq } = flow;
      for (const count of before) {
        tap.give(frameOf(segment({ seq, payload: noise(count, count) })));
        seq += count;
      }
      const first = before.length === 0 ? [] : tap.all();
      for (const count of before) {
        tap.give(frameOf(segment({ seq, payload: noise(count, count) })));
        seq += count;
      }
      const whole = segment({ seq, payload: noise(50_000, 5) });
      tap.give(frameOf(whole));
      return { tap, whole, first };
    };
    // Between two bursts, after each of which the pieces are handed on; and with a burst in hand.
    for (let bursts = 0; bursts < 12; bursts++) {
      for (const inHand of [false, true]) {
        const { tap, whole, first } = arrange();
        const found = [...first];
        for (let i = 0; i < bursts; i++) {
          const burst = tap.burst(5);
          found.push(...burst);
          tap.release(burst.length);
        }
        if (inHand) tap.burst(5);
        found.push(...tap.die(), ...tap.all());
        const others = 2 * before.length;
        expect(found.slice(0, others).map((frame) => dissect(frame).payload.length)).toEqual([
          ...before,
          ...before,
        ]);
        expectPieces(found.slice(others), whole);
        expect(tap.counted('rxTooLong')).toBe(0);
        tap.audit();
      }
    }
  });

  it('is lost, and counted, where the next has no frames for it', () => {
    const tap = new Tap('io_uring', { frames: 64 });
    tap.all();
    tap.give(frameOf(segment({ payload: noise(60_000, 5) })));
    const burst = tap.burst(30);
    expect(burst).toHaveLength(30);
    const { received, bytes } = { received: tap.counted('rxPackets'), bytes: tap.counted('rxBytes') };
    const found = tap.die();
    expect(found).toHaveLength(64 - 4 - 30); // but for a lot of reads, and what was in hand
    expect(found.slice(0, 30)).toEqual(burst);
    const { dropNoFrame } = queueCounters(tap.memory, 0, 0);
    expect(tap.memory.doubles[dropNoFrame]).toBe(1);
    expect(tap.counted('rxPackets') - received).toBe(found.length + 1);
    expect(tap.counted('rxBytes') - bytes).toBe(found.reduce((sum, { length }) => sum + length, 0));
    tap.audit();
  });
});

describe('where no long packet was to be expected', () => {
  const LENGTHS = [1000, 1000, 1000, 5000, 700, 9000];
  let seq = 0;
  const give = (tap: Tap): void => {
    for (const count of LENGTHS) tap.give(frameOf(segment({ seq: seq++, payload: noise(count, count) })));
  };
  const payloads = (frames: readonly number[][]): number[] =>
    frames.map((frame) => dissect(frame).payload.length);

  it('those of the first lot are lost, and counted; then they are cut', () => {
    const tap = new Tap('io_uring', { expected: false });
    tap.all();
    for (let round = 0; round < 3; round++) {
      give(tap);
      const bytes = payloads(tap.all()).reduce((sum, count) => sum + count, 0);
      expect(bytes).toBe(round === 0 ? 12_700 : 17_700);
    }
    expect([tap.counted('rxTooLong'), tap.counted('rxCut')]).toEqual([1, 5]); // a first lot is small
    tap.audit();
  });

  it('each is counted as too long, and none as a packet of a single read', () => {
    const tap = new Tap('io_uring', { expected: false });
    for (let round = 0; round < 20; round++) {
      // A single read takes the frame that a lot begins with later.
      tap.give(frameOf(segment({ seq: seq++, payload: noise(100, 1) })));
      expect(payloads(tap.all())).toEqual([100]);
    }
    // Until it asks to be told: then it reads a lot at once.
    for (let i = 0; i < 300; i++) tap.release(tap.burst(1).length);
    for (let i = 0; i < 4; i++)
      tap.give(tagged(frameOf(segment({ seq: seq++, payload: noise(1800, i) })), 0x7456));
    const found = payloads(tap.all());
    expect(found.filter((count) => count > 1460)).toEqual([]);
    expect(found.reduce((sum, count) => sum + count, 0) + 1800 * tap.counted('rxTooLong')).toBe(4 * 1800);
    tap.audit();
  });

  it('a worker that dies with such a lot leaves nothing of them, and the next one cuts', () => {
    const tap = new Tap('io_uring', { expected: false });
    tap.all();
    give(tap);
    tap.release(tap.burst(1).length);
    expect(payloads([...tap.die(), ...tap.all()]).filter((count) => count > 1448)).toEqual([]);
    const { rxTooLong } = { rxTooLong: tap.counted('rxTooLong') };
    give(tap);
    expect(payloads(tap.all()).reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(3700);
    give(tap);
    expect(payloads(tap.all()).reduce((sum, count) => sum + count, 0)).toBe(17_700);
    expect(rxTooLong).toBeLessThanOrEqual(2);
    expect(tap.counted('rxTooLong') + tap.counted('rxCut')).toBe(6);
    tap.audit();
  });
});
