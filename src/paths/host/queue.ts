/**
 * One queue of the host path. Worker only.
 *
 * **To the machine's own stack**: `push` gathers packets until `flush`, which merges them as the kernel's GRO would
 * (offload/coalesce.ts) and writes them with one native call per burst, one writev per chain. A write is done when it
 * returns, so this path holds no frame between two bursts.
 *
 * **From it**: packets arrive whole, up to 64 KiB each, in buffers of this queue that the next read overwrites. A packet
 * that must last is copied. The burst's `offload` array says for each packet what the stack has left to do: cut a segment,
 * finish a checksum.
 */

import type { Shim } from '../../kernel/shim.ts';
import { addressOf } from '../../kernel/shim.ts';
import { SPAN_BYTES } from '../../memory/abi.ts';
import { FrameOwner, ownerTag } from '../../memory/bit-fields.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { PathLedger } from '../../memory/frame-owners.ts';
import type { FramePool } from '../../memory/frames.ts';
import { HOST_BUFFER_BYTES, HOST_BUFFERS } from '../../memory/geometry.ts';
import { BURST, HEADROOM, type PathId, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { BurstArray } from '../../memory/wasm-abi.ts';
import { Headers } from '../../net/headers.ts';
import { Coalescer } from '../../offload/coalesce.ts';
import { readHeader, VIRTIO_HEADER_BYTES } from '../../offload/virtio.ts';
import { type AttachedPath, type AttachedTransmitter, NO_ARRIVALS } from '../attached-path.ts';
import type { BurstArrays, Receiver } from '../path.ts';

/** Maximum of packets gathered between two writes: a few bursts, and the packets of many chains. */
const GATHERED = 512;

/** Offset of a read in its buffer: the packet then begins at the same offset as in a frame. */
const READ_AT = HEADROOM - VIRTIO_HEADER_BYTES;

/** Rounds without a read after one that did not fill all buffers: a read costs as much as ten looks at a ring. */
const PAUSE = 8;

export class HostQueue implements AttachedPath, Receiver, AttachedTransmitter {
  readonly rx: Receiver = this;
  readonly tx: AttachedTransmitter = this;
  readonly path: PathId;
  readonly tag: number;
  readonly fd: number;
  readonly backlog = false;

  readonly #writeFd: number;
  readonly #inline: boolean;
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #frames: number;
  /** Address and bytes of the shared memory; `#memory` keeps it alive. */
  readonly #base: number;
  readonly #room: number;
  readonly #buffers: number;
  readonly #offload: Int32Array;
  /** Index of the word that counts held packets: if the worker dies, they are lost, and counted. */
  readonly #heldAt: number;
  readonly #headers = new Headers();
  readonly #coalescer: Coalescer;
  readonly #reads = new Int32Array((HOST_BUFFERS * SPAN_BYTES) / 4);
  readonly #writes = new Int32Array((GATHERED * SPAN_BYTES) / 4);
  readonly #counts = new Int32Array(GATHERED);
  readonly #staged = new Int32Array(GATHERED);
  #gathered = 0;
  /** Packets read and not received, from the `#next`-th on. */
  #held = 0;
  #next = 0;
  #pause = 0;

  constructor(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress) {
    const { port, queue, path } = address;
    const { layout, words, bytes, doubles, buffer } = memory;
    this.path = path;
    this.tag = ownerTag(queue, port, path);
    const slot = memory.slot(address);
    this.#writeFd = slot.fd;
    this.#inline = slot.inline === 1;
    this.fd = this.#inline ? this.#writeFd : NO_ARRIVALS;
    this.#shim = shim;
    this.#memory = memory;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#frames = layout.frames;
    this.#base = addressOf(bytes);
    this.#room = bytes.byteLength;
    this.#buffers = layout.hostBuffers(port, queue);
    this.#heldAt = slot.at('held');
    words[this.#heldAt] = 0;
    this.#offload = new Int32Array(buffer, layout.burst(queue) + BurstArray.offload, BURST);
    this.#coalescer = new Coalescer(memory, GATHERED);
  }

  ready(max: number): number {
    if (this.#held === 0 && this.#inline) this.#read();
    return Math.min(this.#held, max);
  }

  receive({ offset, bytes }: BurstArrays, max: number): number {
    const { view } = this.#memory;
    let packets = 0;
    let total = 0;
    let wrong = 0;
    const count = Math.min(this.#held, max);
    for (let i = this.#next; i < this.#next + count; i++) {
      const at = this.#buffers + i * HOST_BUFFER_BYTES + HEADROOM;
      const length = this.#reads[2 * i + 1]! - VIRTIO_HEADER_BYTES;
      const offload = length > 0 ? readHeader(view, at - VIRTIO_HEADER_BYTES, at, length, this.#headers) : -1;
      if (offload < 0) {
        wrong++;
        continue;
      }
      offset[packets] = at;
      bytes[packets] = length;
      this.#offload[packets++] = offload;
      total += length;
    }
    this.#next += count;
    this.#held -= count;
    this.#memory.words[this.#heldAt] = this.#held;
    this.#doubles[this.#counter.rxErrors]! += wrong;
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += total;
    return packets;
  }

  release(): void {}

  room(wanted: number): number {
    return Math.min(wanted, GATHERED - this.#gathered);
  }

  push(offset: number, bytes: number): void {
    this.#coalescer.add(offset, bytes, 0);
    const address = offset - this.#frames;
    this.#pool.setOwner(address, FrameOwner.TX | this.tag);
    this.#staged[this.#gathered++] = address;
    this.#doubles[this.#counter.txBytes]! += bytes;
  }

  flush(): number {
    const packets = this.#gathered;
    if (packets === 0) return 0;
    this.#doubles[this.#counter.txPosted]! += packets;
    const { first, entryOffset, entryBytes } = this.#coalescer;
    const chains = this.#coalescer.close();
    for (let i = 0; i < packets; i++) {
      this.#writes[2 * i] = entryOffset[i]!;
      this.#writes[2 * i + 1] = entryBytes[i]!;
    }
    for (let c = 0; c < chains; c++) this.#counts[c] = first[c + 1]! - first[c]!;
    this.#write(chains);
    for (let i = 0; i < packets; i++) this.#pool.put(this.#staged[i]!);
    this.#gathered = 0;
    return 0;
  }

  complete(): void {}

  refill(): void {}

  reclaimUnsent(): number {
    return 0;
  }

  ledger(): PathLedger {
    return { fill: 0, rx: 0, tx: this.#gathered, completing: 0 };
  }

  enumerate(visit: (address: number) => void): void {
    for (let i = 0; i < this.#gathered; i++) visit(this.#staged[i]! & -this.#pool.frameSize);
  }

  detach(): void {}

  /** If the kernel refuses a chain, its packets are written one by one. A single packet that it refuses is lost. */
  #write(chains: number): void {
    const { first } = this.#coalescer;
    const doubles = this.#doubles;
    const counter = this.#counter;
    let done = 0;
    while (done < chains) {
      doubles[counter.kicks]!++;
      const spans = done === 0 ? this.#writes : this.#writes.subarray(2 * first[done]!);
      const counts = done === 0 ? this.#counts : this.#counts.subarray(done);
      const written = this.#shim.writeChains(
        this.#writeFd,
        this.#base,
        this.#room,
        spans,
        counts,
        chains - done,
      );
      if (written > 0) {
        doubles[counter.txPackets]! += first[done + written]! - first[done]!;
        doubles[counter.txChains]! += written;
        done += written;
        continue;
      }
      if (this.#counts[done]! > 1) this.#writeSingly(done);
      else doubles[counter.txErrors]!++;
      done++;
    }
  }

  /**
   * Writes the packets of a chain one by one. Kernels with commit e269d79c7d35 and without 89add40066f9 (some of July 2024)
   * refuse a large segment with a short tail with EINVAL. And the kernel may have memory for a frame, but not for 64 KiB.
   */
  #writeSingly(chain: number): void {
    const { first, entryOffset, entryBytes } = this.#coalescer;
    const doubles = this.#doubles;
    const counter = this.#counter;
    this.#coalescer.split(chain);
    doubles[counter.txSegmentsRefused]!++;
    const end = first[chain + 1]!;
    for (let i = first[chain]!; i < end; i++) {
      this.#writes[2 * i] = entryOffset[i]!;
      this.#writes[2 * i + 1] = entryBytes[i]!;
    }
    for (let i = first[chain]!; i < end; ) {
      doubles[counter.kicks]!++;
      const written = this.#shim.writeBurst(
        this.#writeFd,
        this.#base,
        this.#room,
        this.#writes.subarray(2 * i),
        end - i,
      );
      if (written > 0) {
        doubles[counter.txPackets]! += written;
        doubles[counter.txChains]! += written;
        i += written;
        continue;
      }
      doubles[counter.txErrors]!++;
      i++;
    }
  }

  #read(): void {
    if (this.#pause > 0) {
      this.#pause--;
      return;
    }
    const spans = this.#reads;
    for (let i = 0; i < HOST_BUFFERS; i++) {
      spans[2 * i] = this.#buffers + i * HOST_BUFFER_BYTES + READ_AT;
      spans[2 * i + 1] = HOST_BUFFER_BYTES - READ_AT;
    }
    const count = this.#shim.readBurst(this.fd, this.#base, this.#room, spans, HOST_BUFFERS);
    if (count < 0) this.#doubles[this.#counter.rxErrors]!++;
    this.#next = 0;
    this.#held = Math.max(count, 0);
    this.#memory.words[this.#heldAt] = this.#held;
    if (this.#held < HOST_BUFFERS) this.#pause = PAUSE;
  }
}
