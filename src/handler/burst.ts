/**
 * A burst: the packets of one call of a handler, as a struct of arrays in the shared memory.
 *
 * Each worker has one burst object and refills it for each call, so a handler must not keep any of it. A handler in
 * WebAssembly uses the same words. Belongs to the worker thread. NB: `declare` on a field, here and in Packet: see jit.ts.
 */
import { BURST } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { BurstArray } from '../memory/wasm-abi.ts';
import { Packet } from './packet.ts';

/** Where `send` gets its frames: see src/datapath/handler-frames.ts. */
export interface FrameSource {
  /** Offset in the shared memory of a free frame's first packet byte, or -1 if none is free. */
  take(): number;
  /**
   * Stages the frame for transmission; frees it and returns false if the path is full.
   *
   * @param offload what is left to do, see memory/offload.ts
   * @param tag a VLAN tag to insert, see `TAG_ORDER` in memory/metadata.ts
   */
  post(offset: number, length: number, offload: number, tag: number): boolean;
  /** Frees a frame that was taken and is not sent. */
  put(offset: number): void;
}

export class Burst {
  /** Its byte offset in the shared memory. Not for handlers. */
  declare readonly at: number;
  /** Packets in this burst. */
  length = 0;
  /** Byte offset of each packet's first byte in the shared memory. */
  declare readonly offset: Int32Array;
  /** Bytes of each packet, without the frame check sequence. */
  declare readonly bytes: Int32Array;
  /** RSS hash; 0 if none was computed: one queue, or `rss: 'device'`. Then metadata 'hash' gives the device's. */
  declare readonly hash: Int32Array;
  /**
   * Work that is left before the packet can be sent, see memory/offload.ts: of packets of the host what the stack left; 0 for
   * others. With metadata 'offload' the handler may set it, and the port does that work.
   */
  declare readonly offload: Int32Array;
  /** Number of the port the packet came from, in the order they were opened; 0 if there is one. */
  declare readonly port: Uint8Array;
  /** Path it came by: 1 synthetic, 2 VF, 3 the machine's own stack. */
  declare readonly path: Uint8Array;
  /** A {@link Verdict}; DROP before the handler runs. An unknown value drops too. */
  declare readonly verdict: Uint8Array;
  /** For FORWARD: number of the port that sends it. Undefined until it is set. */
  declare readonly target: Uint8Array;
  /** Metadata 'tag': a VLAN tag to insert, 0x10000 | its control information; 0, before the handler runs too: none. */
  declare readonly tag: Int32Array;
  /** Metadata 'rule': 1 + index of the flow rule that gave the packet to the handler; 0 none, or not known. */
  declare readonly rule: Int32Array;
  /** Metadata 'time': when the device received the packet, in nanoseconds of its clock; 0 not known. */
  declare readonly time: BigUint64Array;
  /** Metadata 'checksum': 1 if the device has verified the checksum, 0 if that is not known. */
  declare readonly checksum: Uint8Array;

  /** What the handler asks for: `MetadataBit`s. Set when the handler is loaded. Not for handlers. */
  metadata = 0;

  declare private readonly shown: Packet;
  readonly #made: Packet;
  #source: FrameSource | undefined;

  constructor(memory: Memory, queue: number) {
    const { buffer, layout } = memory;
    const at = layout.burst(queue);
    this.at = at;
    this.offset = new Int32Array(buffer, at + BurstArray.offset, BURST);
    this.bytes = new Int32Array(buffer, at + BurstArray.bytes, BURST);
    this.hash = new Int32Array(buffer, at + BurstArray.hash, BURST);
    this.offload = new Int32Array(buffer, at + BurstArray.offload, BURST);
    this.port = new Uint8Array(buffer, at + BurstArray.port, BURST);
    this.path = new Uint8Array(buffer, at + BurstArray.path, BURST);
    this.verdict = new Uint8Array(buffer, at + BurstArray.verdict, BURST);
    this.target = new Uint8Array(buffer, at + BurstArray.target, BURST);
    this.tag = new Int32Array(buffer, at + BurstArray.tag, BURST);
    this.rule = new Int32Array(buffer, at + BurstArray.rule, BURST);
    this.time = new BigUint64Array(buffer, at + BurstArray.time, BURST);
    this.checksum = new Uint8Array(buffer, at + BurstArray.checksum, BURST);
    this.shown = new Packet(memory, this);
    this.#made = new Packet(memory, this);
  }

  /** The i-th packet, as one reused view: it is good until the next call. @throws RangeError */
  packet(i: number): Packet {
    const { shown } = this;
    shown.moveTo(i);
    // Not the result of moveTo(): V8 knows which object this one is before it has inlined that.
    return shown;
  }

  /**
   * Sends a packet that the handler makes: takes a frame from the pool, calls `write` to fill it, and stages it. `write`
   * gets a reused packet view of `length` bytes, whose content is undefined; it must not send another packet itself.
   *
   * @returns false if no frame was free or the path is full; both are counted
   */
  send(length: number, write: (packet: Packet) => void): boolean {
    const source = this.#source;
    if (source === undefined) return false;
    const offset = source.take();
    if (offset < 0) return false;
    // A view of its own: `write` may read the burst's packets while it fills this one.
    const made = this.#made;
    try {
      made.moveToFrame(offset, length);
      write(made);
    } catch (error) {
      source.put(offset);
      throw error;
    }
    return source.post(made.offset, made.length, made.offload, made.tag);
  }

  /** Sets the queue of the burst. Not for handlers. */
  bind(source: FrameSource): void {
    this.#source = source;
  }

  /** The frames of that queue; undefined before the first {@link bind}. Not for handlers. */
  get source(): FrameSource | undefined {
    return this.#source;
  }

  /** The packet that the handler read last, -1 none: an exception drops it. Not for handlers. */
  get cursor(): number {
    return this.shown.index;
  }

  /** Begins a burst of `length` packets that are in the arrays. Not for handlers. */
  begin(length: number): void {
    this.open(length);
    this.verdict.fill(0, 0, length);
  }

  /** The same, if the arrays also have the verdicts. Not for handlers. */
  open(length: number): void {
    this.length = length;
    this.shown.leave();
  }

  /** Removes the first `count` packets: the rest is a burst of its own. Not for handlers. */
  shift(count: number): void {
    const { length } = this;
    this.offset.copyWithin(0, count, length);
    this.bytes.copyWithin(0, count, length);
    this.hash.copyWithin(0, count, length);
    this.offload.copyWithin(0, count, length);
    this.port.copyWithin(0, count, length);
    this.path.copyWithin(0, count, length);
    if (this.metadata !== 0) {
      this.tag.copyWithin(0, count, length);
      this.rule.copyWithin(0, count, length);
      this.time.copyWithin(0, count, length);
      this.checksum.copyWithin(0, count, length);
    }
    this.begin(length - count);
  }
}
