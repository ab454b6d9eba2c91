/**
 * The cost of the inner loops over bytes, without a kernel and other threads: the RSS hash of a packet, the sum over a payload,
 * cutting a segment of nearly 64 KiB into frames, merging frames into segments.
 *
 * Packets to hash are in 256 frames, each with its own port. Frames to merge come 64 at a time: of one flow, of eight flows in
 * turn, and UDP datagrams, which are not merged. All data stays in the second-level cache, as if the kernel had just written it:
 * the figures do not include the cost of memory.
 */
import { BURST, HEADROOM } from '../../src/memory/layout.ts';
import { offloadWord, Segmentation } from '../../src/memory/offload.ts';
import { Memory } from '../../src/memory/shared.ts';
import { sum } from '../../src/net/checksum.ts';
import { Coalescer } from '../../src/offload/coalesce.ts';
import { Segmenter } from '../../src/offload/segment.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { retaIndex } from '../../src/rss/redirection.ts';
import { RssHash } from '../../src/rss/toeplitz.ts';
import { nanosEach } from '../rigs/timing.ts';
import { type Benchmark, type Budget, comparisons, type Sample } from '../runner/benchmark.ts';

const FRAMES = 256;
const FRAME = 2048;
const GEOMETRY = { pageSize: 4096, ports: 1, queues: 1, frameSize: FRAME };
const ROOM = FRAME - HEADROOM;
const PAYLOAD = 1448;
const HEADERS = 14 + 20 + 32; // TCP with timestamps
const SEGMENTS = Math.floor((65_535 - HEADERS + 14) / PAYLOAD);
/** Slices of the time of a loop; the fastest counts, as the others were disturbed. */
const SLICES = 5;

/** Nanoseconds for each of the `count` items that `work` handles. */
function nanos(seconds: number, count: number, work: () => void): number {
  const slice = (): number =>
    nanosEach(seconds / (SLICES + 1), () => {
      for (let i = 0; i < 64; i++) work();
      return 64 * count;
    });
  slice(); // V8 compiles meanwhile
  return Math.min(...Array.from({ length: SLICES }, slice));
}

/** Of each kind: the bytes behind the addresses, the length, and the offset of the last port. */
const HASHED = {
  ipv4Tcp: { start: [0x08, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 6], bytes: 60, lastPort: 36 },
  ipv6Tcp: { start: [0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 6, 64], bytes: 80, lastPort: 56 },
  notIp: { start: [0x08, 0x06], bytes: 60, lastPort: 36 },
} as const;

function hashing({ seconds }: Budget): Sample {
  const view = new DataView(new SharedArrayBuffer(FRAMES * FRAME));
  const hash = new RssHash(view, DEFAULT_KEY);
  const sample: Record<string, number> = {};
  let kept = 0;
  // Twice: in the second turn V8 has seen every kind, and compiles for all of them.
  for (const length of [0.1, 0.9 * seconds]) {
    for (const [kind, { start, bytes, lastPort }] of Object.entries(HASHED)) {
      for (let frame = 0; frame < FRAMES; frame++) {
        const at = frame * FRAME + HEADROOM;
        new Uint8Array(view.buffer, at, 128).fill(0x5a);
        new Uint8Array(view.buffer, at + 12).set(start);
        view.setUint16(at + lastPort, frame);
      }
      let burst = 0;
      sample[kind] = nanos(length / Object.keys(HASHED).length, BURST, () => {
        const first = (burst++ * BURST) & (FRAMES - 1);
        let indices = 0;
        for (let i = 0; i < BURST; i++) {
          indices ^= retaIndex(hash.of((first + i) * FRAME + HEADROOM, bytes));
        }
        kept ^= indices;
      });
    }
  }
  if (kept < 0) throw new Error('an index of the table is negative'); // and so the hashes are needed
  return sample;
}

/** Everything that cuts and merges works on: a large segment, and the frames of a burst. */
class Segments {
  readonly #memory = Memory.create({ ...GEOMETRY, framesPerWorker: 256, ringEntries: 64 });
  readonly #large = this.#memory.layout.frames + HEADROOM;
  readonly #frames = this.#memory.layout.frames + 64 * FRAME + HEADROOM;
  readonly #offload = offloadWord(PAYLOAD, Segmentation.TCP_V4, true);
  readonly #segmenter = new Segmenter(this.#memory);
  readonly #coalescer = new Coalescer(this.#memory, BURST);

  constructor() {
    const { bytes } = this.#memory;
    for (let i = 0; i < HEADERS + SEGMENTS * PAYLOAD; i++) bytes[this.#large + i] = i * 7;
    this.#lay(this.#large, SEGMENTS * PAYLOAD, 6, 1);
  }

  sum(seconds: number): number {
    return nanos(seconds, 1, () => void sum(this.#memory.view, this.#large + HEADERS, PAYLOAD));
  }

  copy(seconds: number): number {
    const { bytes } = this.#memory;
    const target = this.#target(0);
    return nanos(seconds, 1, () => void bytes.copyWithin(target, this.#large, this.#large + PAYLOAD));
  }

  cut(seconds: number): number {
    return nanos(seconds, SEGMENTS, () => {
      this.#begin();
      for (let i = 0; i < SEGMENTS; i++) this.#segmenter.write(i, this.#target(i));
    });
  }

  /** A burst of the frames of `flows` segments in turn. */
  merge(seconds: number, flows: number): number {
    const { view, bytes } = this.#memory;
    for (let i = 0; i < BURST; i++) {
      this.#lay(this.#large, SEGMENTS * PAYLOAD, 6, i % flows);
      this.#begin();
      this.#segmenter.write(Math.floor(i / flows) % SEGMENTS, this.#target(i));
    }
    const heads = Array.from({ length: BURST }, (_, i) => {
      const head = new DataView(bytes.slice(this.#target(i), this.#target(i) + HEADERS).buffer);
      return { at: this.#target(i), edited: [16, 24, 50].map((at) => [at, head.getUint16(at)] as const) };
    });
    let chains = 0;
    const cost = nanos(seconds, BURST, () => {
      for (let i = 0; i < BURST; i++) this.#coalescer.add(this.#target(i), HEADERS + PAYLOAD, 0);
      chains = this.#coalescer.close();
      // Lengths and checksums of the heads were edited: as they were.
      for (let chain = 0; chain < chains; chain++) {
        const at = this.#coalescer.entryOffset[this.#coalescer.first[chain]!]! + 10;
        const { edited } = heads[(at - this.#target(0)) / FRAME]!;
        for (const [field, value] of edited) view.setUint16(at + field, value);
      }
    });
    if (chains >= BURST / 4) throw new Error(`${BURST} frames of ${flows} flows made ${chains} segments`);
    return cost;
  }

  /** Datagrams, which are never merged. */
  alone(seconds: number): number {
    for (let i = 0; i < BURST; i++) this.#lay(this.#target(i), PAYLOAD, 17, i);
    return nanos(seconds, BURST, () => {
      for (let i = 0; i < BURST; i++) this.#coalescer.add(this.#target(i), HEADERS + PAYLOAD, 0);
      this.#coalescer.close();
    });
  }

  #target(i: number): number {
    return this.#frames + i * FRAME;
  }

  #begin(): void {
    this.#segmenter.begin(this.#large, HEADERS + SEGMENTS * PAYLOAD, this.#offload, ROOM);
  }

  /** Headers of a packet, to go with `count` bytes of payload. */
  #lay(at: number, count: number, protocol: number, port: number): void {
    const { view } = this.#memory;
    view.setUint16(at + 12, 0x0800);
    view.setUint32(at + 14, (0x4500 << 16) | (HEADERS - 14 + count));
    view.setUint32(at + 18, 0x4000);
    view.setUint32(at + 22, (64 << 24) | (protocol << 16));
    view.setUint32(at + 26, 0x0a4d0001);
    view.setUint32(at + 30, 0x0a4d0002);
    view.setUint16(at + 34, port);
    view.setUint32(at + 38, 1000);
    view.setUint16(at + 46, 0x8010);
  }
}

function segments({ seconds }: Budget): Sample {
  const work = new Segments();
  const each = seconds / 6;
  return {
    sum: work.sum(each),
    copy: work.copy(each),
    cut: work.cut(each),
    oneFlow: work.merge(each, 1),
    eightFlows: work.merge(each, 8),
    alone: work.alone(each),
  };
}

export const kernels: Benchmark = {
  name: 'kernels',
  about: 'the inner loops over bytes, on one thread, everything in the cache',
  variants: { hashing, segments },
  comparisons: comparisons(`
    kernels            | hashing.ipv4Tcp     | ns | | RSS hash of TCP over IPv4
    kernels:hash-ipv6  | hashing.ipv6Tcp     | ns | | RSS hash of TCP over IPv6
    kernels:hash-none  | hashing.notIp       | ns | | finding that a packet has none
    kernels:sum        | segments.sum        | ns | | sum over a payload of ${PAYLOAD} bytes
    kernels:copy       | segments.copy       | ns | | copying it, for comparison
    kernels:cut        | segments.cut        | ns | | a frame of ${PAYLOAD} bytes cut from a segment of 64 KiB
    kernels:merge-1    | segments.oneFlow    | ns | | a frame merged, all of one flow
    kernels:merge-8    | segments.eightFlows | ns | | a frame merged, eight flows in turn
    kernels:merge-none | segments.alone      | ns | | a datagram that passes alone
  `),
  full: { runs: 4, seconds: 2 },
  quick: { runs: 1, seconds: 1 },
};
