/**
 * The memory path: AF_XDP's four rings without a kernel. The other end is a thread with a {@link MemoryPeer} for each
 * queue: the lab's network without root, tests, benchmarks.
 *
 * The device may go at any time, as a NIC does, and the peer has to notice. Two words of the path slot exclude each other
 * as in Dekker's algorithm: the peer stores "busy", then reads whether the path is there; the device stores "gone", then
 * reads whether the peer is busy. Atomics are sequentially consistent, so at least one of them sees the other. After
 * {@link MemoryDevice.disarm} no peer touches the rings, so the packets that it has not taken can be taken back, and none
 * is sent twice.
 */
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { Driver, type PathId, type QueueAddress, Reader } from '../../memory/layout.ts';
import { layOwnRings } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import { maxPacketBytes } from '../../net/packet-size.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { limitSentBytes } from '../packet-limit.ts';

/** The longest wait for a peer's burst. A burst takes microseconds; a thread that was ended in one never completes it. */
const BURST_MILLIS = 250;

export class MemoryDevice implements PathDevice {
  readonly description: PathDescription;
  /** It has no descriptors, only memory. */
  readonly holdings = {};
  changed = (): void => {};
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  readonly #queues: readonly QueueAddress[];
  readonly #metadata: boolean;

  /** @param metadata whether the peer writes metadata before its packets: see memory/metadata.ts */
  constructor(memory: Memory, port: number, path: PathId, name: string, metadata = false) {
    this.#memory = memory;
    this.#metadata = metadata;
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
      slot.open(Driver.MEMORY, { reader: Reader.ASKED, metadata: this.#metadata ? 1 : 0 });
    }
  }

  /** Lets peers attach: they wait for an odd incarnation. */
  arm(): void {
    this.#count(1);
  }

  /** Detaches the peers, and waits for those that are in a burst. */
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
