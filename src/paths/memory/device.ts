/**
 * The memory path: AF_XDP's four rings without a kernel. The other end is a thread that holds a
 * {@link MemoryPeer} for each queue: the lab's network without root, tests, benchmarks.
 *
 * The device goes as a NIC does, whenever it likes, and the peer has to notice. Two words of the path slot
 * settle it, in Dekker's manner: the peer says "busy", then looks whether the path is still there; the
 * device says "gone", then looks whether the peer is busy. Atomics are sequentially consistent, so at
 * least one of them sees the other. After {@link MemoryDevice.disarm} no peer touches the rings: what it
 * has not taken by then may be taken back without anything being sent twice.
 */
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { Driver, type PathId, type QueueAddress, Reader } from '../../memory/layout.ts';
import { layOwnRings } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { limitSentBytes, maxPacketBytes } from '../packet-size.ts';

/** How long a peer's burst is waited for. It takes microseconds; a thread that was ended in it never answers. */
const BURST_MILLIS = 250;

export class MemoryDevice implements PathDevice {
  readonly description: PathDescription;
  /** It has no descriptors: all of it is in the memory. */
  readonly holdings = {};
  changed = (): void => {};
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  readonly #queues: readonly QueueAddress[];

  constructor(memory: Memory, port: number, path: PathId, name: string) {
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    const { queues } = memory.layout.geometry;
    this.#queues = Array.from({ length: queues }, (_, queue) => ({ port, queue, path }));
    this.description = { driver: 'memory', device: name, mode: 'rings in memory', redirect: 'memory' };
  }

  open(): void {
    const memory = this.#memory;
    limitSentBytes(memory, this.#port, this.#path, maxPacketBytes(memory.layout.geometry.frameSize));
    for (const address of this.#queues) {
      layOwnRings(memory, address);
      const slot = memory.slot(address);
      Atomics.store(memory.words, slot.at('peerBusy'), 0);
      slot.open(Driver.MEMORY, { reader: Reader.ASKED });
    }
  }

  /** From here on a peer may attach: it waits for the incarnation to be odd. */
  arm(): void {
    this.#count(1);
  }

  /** Sends the peers away, and waits for those that are in the middle of a burst. */
  disarm(): void {
    this.#count(0);
    const { words } = this.#memory;
    for (const address of this.#queues) {
      Atomics.wait(words, this.#memory.slot(address).at('peerBusy'), 1, BURST_MILLIS);
    }
  }

  close(): void {
    this.disarm();
    for (const address of this.#queues) this.#memory.slot(address).close();
  }

  dropped(_queue: number): Record<KernelCounter, number> {
    return NOTHING_DROPPED;
  }

  #count(parity: 0 | 1): void {
    const { words } = this.#memory;
    for (const address of this.#queues) {
      const at = this.#memory.slot(address).at('incarnation');
      const now = Atomics.load(words, at);
      if ((now & 1) !== parity) Atomics.store(words, at, now + 1);
    }
  }
}
