/**
 * A worker's end of an AF_XDP path queue with jumbo frames, and a kernel in copy mode that reads and writes chains of
 * descriptors as Linux 6.17 does (K:net/xdp/xsk.c, `__xsk_rcv`, `__xsk_generic_xmit`). Each packet has a number and a length,
 * and bytes that follow from them.
 */
import { Errno } from '../../src/errors.ts';
import { pathCounters, readCounters } from '../../src/memory/counters.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { HEADROOM, Path, Reader, Ring } from '../../src/memory/layout.ts';
import { ringPlace } from '../../src/memory/requests.ts';
import { Memory } from '../../src/memory/shared.ts';
import { ChainQueue } from '../../src/paths/af-xdp/chain-queue.ts';
import { MemoryDevice } from '../../src/paths/memory/device.ts';

export const FRAMES = 128;
export const ENTRIES = 64;
export const ADDRESS = { port: 0, queue: 0, path: Path.VF } as const;
const FRAME = 16_384;
const CHUNK = 4096;
/** Bytes of a buffer that it receives into. */
export const ROOM = CHUNK - HEADROOM;
const CONTINUED = 1;

/** What the kernel does with the packet that it has read. */
export type Fate = 'sent' | 'dropped' | 'busy';

export interface Packet {
  readonly number: number;
  readonly bytes: number;
}

export function opened(chains = 1): Memory {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: FRAME },
    ...{ framesPerWorker: FRAMES, ringEntries: ENTRIES },
  });
  const device = new MemoryDevice(memory, 0, Path.VF, 'vf');
  device.open();
  device.arm();
  Object.assign(memory.slot(ADDRESS), { reader: Reader.ASKED, chains });
  return memory;
}

/** The packet's byte at `i`: its number and its length first. */
const byteOf = ({ number, bytes }: Packet, i: number): number =>
  i < 4 ? (number >>> (8 * i)) & 255 : i < 6 ? (bytes >>> (8 * (i - 4))) & 255 : (number * 31 + i * 7) & 255;

export function write(memory: Memory, offset: number, packet: Packet, from = 0, to = packet.bytes): void {
  for (let i = from; i < to; i++) memory.bytes[offset + i - from] = byteOf(packet, i);
}

/** The number of the packet in these bytes. @throws if any of them is wrong */
export function read(bytes: Uint8Array): number {
  const number = bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24);
  const packet = { number, bytes: bytes[4]! | (bytes[5]! << 8) };
  const wrong = bytes.findIndex((byte, i) => byte !== byteOf(packet, i));
  if (packet.bytes !== bytes.length || wrong >= 0) {
    throw new Error(`packet ${number}: ${bytes.length} of ${packet.bytes} bytes, wrong at ${wrong}`);
  }
  return number;
}

export class ChainMode {
  /** Numbers of the packets sent. */
  readonly sent: number[] = [];
  gone = false;
  now = 0;
  /** Kernels before Linux 6.6 leave the options of a descriptor as they are (xskq_prod_reserve_desc). */
  writesOptions = true;
  readonly millis = (): number => this.now;
  readonly #memory: Memory;
  readonly #fates: Iterator<Fate>;
  readonly #batch: number;
  readonly #place = (ring: 0 | 1 | 2 | 3) => ringPlace(this.#memory, ADDRESS, ring);
  /** Chunks of the packet that a kick has begun to read, and of those whose transmission is not over. */
  #begun: number[] = [];
  readonly #flying: number[][] = [];
  /** The bytes of chunks that are read. The device reads them until they are completed. */
  readonly #contents = new Map<number, Uint8Array>();
  #cachedConsumer = 0;
  /** Received chunks that are not published. */
  #unpublished = 0;

  constructor(memory: Memory, fates: readonly Fate[], batch: number) {
    this.#memory = memory;
    this.#fates = fates.values();
    this.#batch = batch;
    memory.words[this.#place(Ring.TX).flags] = 1;
  }

  readonly kick = (): number => {
    if (this.gone) return Errno.ENXIO;
    const { words, bytes, layout } = this.#memory;
    const tx = this.#place(Ring.TX);
    let result = 0;
    let any = false;
    for (let left = this.#batch; this.#cachedConsumer !== words[tx.producer]; left--) {
      if (left === 0 || this.#isFull) {
        result = Errno.EAGAIN;
        break;
      }
      const slot = tx.slots + (this.#cachedConsumer & (ENTRIES - 1)) * 4;
      const [address, upper, length, options] = words.subarray(slot, slot + 4) as unknown as number[];
      const inChunk = (address! & (CHUNK - 1)) + length! <= CHUNK;
      if (upper !== 0 || !inChunk || length === 0 || (options! & ~CONTINUED) !== 0) {
        throw new Error(`descriptor ${[address, upper, length, options]}`);
      }
      this.#begun.push(slot);
      this.#cachedConsumer = (this.#cachedConsumer + 1) | 0;
      if (options === CONTINUED) continue;
      const chunks = this.#begun.map((at) => [words[at]!, words[at + 2]!] as const);
      const { value: fate = 'sent' } = this.#fates.next();
      if (fate === 'busy') {
        this.#cachedConsumer = (this.#cachedConsumer - this.#begun.length) | 0;
        this.#begun = [];
        result = Errno.EAGAIN;
        break;
      }
      this.#begun = [];
      const addresses = chunks.map(([at]) => at);
      if (fate === 'dropped') {
        this.#complete(addresses);
        result = Errno.EBUSY;
        break;
      }
      const whole = chunks.flatMap(([at, some]) => [
        ...bytes.subarray(layout.frames + at, layout.frames + at + some),
      ]);
      this.sent.push(read(Uint8Array.from(whole)));
      this.#flying.push(addresses);
      for (const [at, some] of chunks) {
        if (this.#contents.has(at)) throw new Error(`${at} was sent again before it was completed`);
        this.#contents.set(at, bytes.slice(layout.frames + at, layout.frames + at + some));
      }
      any = true;
    }
    if (any || this.#cachedConsumer === words[tx.producer]) words[tx.consumer] = this.#cachedConsumer;
    return result;
  };

  /** Socket buffers are freed, in the order the device likes. */
  land(count: number, pick: number): void {
    for (let i = 0; i < count && this.#flying.length > 0; i++) {
      this.#complete(this.#flying.splice(pick % this.#flying.length, 1)[0]!);
    }
  }

  /** A driver that reads the frames themselves is done with so many chunks, the oldest first. */
  landChunks(count: number): void {
    for (let i = 0; i < count && this.#flying.length > 0; i++) {
      this.#complete([this.#flying[0]!.shift()!]);
      if (this.#flying[0]!.length === 0) this.#flying.shift();
    }
  }

  /**
   * Receives a packet, if there are buffers and room. Publishes all chunks but the last `hidden`, and those hidden before.
   *
   * @returns whether it did
   */
  deliver(packet: Packet, hidden = 0): boolean {
    const { words, layout } = this.#memory;
    const [fill, rx] = [this.#place(Ring.FILL), this.#place(Ring.RX)];
    const chunks = Math.ceil(packet.bytes / ROOM);
    this.publish();
    const empty = (words[fill.producer]! - words[fill.consumer]!) | 0;
    const used = (words[rx.producer]! - words[rx.consumer]!) | 0;
    if (empty < chunks || ENTRIES - used < chunks) return false;
    for (let i = 0; i < chunks; i++) {
      const address = words[fill.slots + (words[fill.consumer]! & (ENTRIES - 1)) * 2]! + HEADROOM;
      words[fill.consumer] = (words[fill.consumer]! + 1) | 0;
      const to = Math.min(packet.bytes, (i + 1) * ROOM);
      write(this.#memory, layout.frames + address, packet, i * ROOM, to);
      const slot = rx.slots + ((words[rx.producer]! + i) & (ENTRIES - 1)) * 4;
      words.set([address, 0, to - i * ROOM], slot);
      if (this.writesOptions) words[slot + 3] = i < chunks - 1 ? CONTINUED : 0;
    }
    this.#unpublished = Math.min(hidden, chunks - 1);
    words[rx.producer] = (words[rx.producer]! + chunks - this.#unpublished) | 0;
    return true;
  }

  /** Publishes what was hidden. */
  publish(): void {
    const rx = this.#place(Ring.RX);
    this.#memory.words[rx.producer]! += this.#unpublished;
    this.#unpublished = 0;
  }

  /** No room is left to report that the chunks of one more packet were sent. */
  get #isFull(): boolean {
    const { words } = this.#memory;
    const { producer, consumer } = this.#place(Ring.COMPLETION);
    const unread = (words[producer]! - words[consumer]!) | 0;
    return this.#flying.flat().length + this.#begun.length + unread >= ENTRIES;
  }

  #complete(addresses: readonly number[]): void {
    const { words, bytes, layout } = this.#memory;
    const { producer, slots } = this.#place(Ring.COMPLETION);
    for (const address of addresses) {
      const was = this.#contents.get(address);
      const at = layout.frames + address;
      if (was?.some((byte, i) => byte !== bytes[at + i]))
        throw new Error(`${address} was used before it was sent`);
      this.#contents.delete(address);
      words.set([address, 0], slots + (words[producer]! & (ENTRIES - 1)) * 2);
      words[producer] = (words[producer]! + 1) | 0;
    }
  }
}

/** A queue, its pool and its kernel. */
export class ChainBench {
  readonly memory: Memory;
  readonly kernel: ChainMode;
  pool: FramePool;
  queue: ChainQueue;
  pushed = 0;

  constructor(fates: readonly Fate[] = [], batch = 32, chains = 1) {
    this.memory = opened(chains);
    this.kernel = new ChainMode(this.memory, fates, batch);
    this.pool = new FramePool(this.memory, 0);
    this.queue = this.attach();
    this.pool.owners.recover([this.queue]);
  }

  attach(pool = this.pool): ChainQueue {
    const { kick, millis } = this.kernel;
    return new ChainQueue(this.memory, pool, ADDRESS, { kick, millis });
  }

  /** The worker died; another one goes on. */
  replace(): void {
    this.pool = new FramePool(this.memory, 0);
    this.queue = this.attach();
    this.pool.owners.recover([this.queue]);
  }

  /** Pushes a packet that begins `shift` bytes behind the usual place, if there is room. */
  push(bytes: number, shift = 0): boolean {
    if (this.queue.tx.room(1) < 1 || this.pool.count === 0) return false;
    const offset = this.memory.layout.frames + this.pool.peek(0) + HEADROOM + shift;
    write(this.memory, offset, { number: this.pushed++, bytes });
    this.queue.tx.push(offset, bytes);
    this.pool.remove(1);
    return true;
  }

  /** Every frame is free, in a ring, or with the kernel's socket buffers. */
  whole(): void {
    const { fill, rx, tx, completing } = this.queue.ledger();
    const sum = this.pool.count + fill + rx + tx + completing;
    const duplicates = this.pool.owners.duplicates([this.queue]);
    if (sum !== FRAMES || duplicates !== 0)
      throw new Error(
        `${sum} of ${FRAMES} frames, ${duplicates} twice: ${JSON.stringify(this.queue.ledger())}`,
      );
  }

  get counters() {
    return readCounters(this.memory, pathCounters(this.memory, 0, 0, Path.VF));
  }
}
