/**
 * The other end of a memory path: a thread that plays the kernel on one queue, for the lab's network without root, tests
 * and benchmarks. device.ts says how the path ends.
 */
import { HEADROOM, type PathId, type QueueAddress, Ring } from '../../memory/layout.ts';
import { ringPlace } from '../../memory/requests.ts';
import { Consumer, Producer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';

/**
 * Plays the kernel on one queue of a memory path; one at a time. Belongs to the thread of the network. Once the path is gone
 * every call returns 0, and a new peer has to be attached.
 */
export class MemoryPeer {
  readonly #memory: Memory;
  readonly #incarnationAt: number;
  readonly #incarnation: number;
  readonly #busyAt: number;
  readonly #sleepingAt: number;
  readonly #doorbellAt: number;
  readonly #fill: Consumer;
  readonly #rx: Producer;
  readonly #tx: Consumer;
  readonly #completion: Producer;

  private constructor(memory: Memory, address: QueueAddress, incarnation: number) {
    const { words } = memory;
    const slot = memory.slot(address);
    const worker = memory.workers[address.queue]!;
    this.#memory = memory;
    this.#incarnationAt = slot.at('incarnation');
    this.#incarnation = incarnation;
    this.#busyAt = slot.at('peerBusy');
    this.#sleepingAt = worker.at('sleeping');
    this.#doorbellAt = worker.at('doorbell');
    this.#fill = new Consumer(words, ringPlace(memory, address, Ring.FILL));
    this.#rx = new Producer(words, ringPlace(memory, address, Ring.RX));
    this.#tx = new Consumer(words, ringPlace(memory, address, Ring.TX));
    this.#completion = new Producer(words, ringPlace(memory, address, Ring.COMPLETION));
  }

  /** The peer of a queue, or undefined while the path is closed. */
  static attach(memory: Memory, port: number, queue: number, path: PathId): MemoryPeer | undefined {
    const address = { port, queue, path };
    const incarnation = Atomics.load(memory.words, memory.slot(address).at('incarnation'));
    if ((incarnation & 1) === 0) return undefined;
    return new MemoryPeer(memory, address, incarnation);
  }

  /** Whether its path is still open; the path may be gone when this returns. */
  get alive(): boolean {
    return Atomics.load(this.#memory.words, this.#incarnationAt) === this.#incarnation;
  }

  /** Packets delivered and not received yet; 0 once the path is gone. */
  get undelivered(): number {
    return this.alive ? this.#rx.pending() : 0;
  }

  /** Packets that the port has sent and that are not collected yet; 0 once the path is gone. */
  get uncollected(): number {
    return this.alive ? this.#tx.pending() : 0;
  }

  /**
   * Delivers up to `count` packets: `write` gets the offset of each frame in the shared memory and returns the packet's
   * length, or -1 at the end. Returns how many were delivered: fewer if the queue has no empty frames or its receive ring
   * is full.
   */
  deliver(count: number, write: (offset: number) => number): number {
    if (!this.#enter()) return 0;
    try {
      return this.#deliver(count, write);
    } finally {
      this.#leave();
    }
  }

  /** Takes up to `count` sent packets: `read` gets each one's offset and length. Returns how many. */
  collect(count: number, read: (offset: number, length: number) => void): number {
    if (!this.#enter()) return 0;
    try {
      return this.#collect(count, read);
    } finally {
      this.#leave();
    }
  }

  /** Begins a burst, unless the path is gone. Two Atomics: 15 ns a burst. */
  #enter(): boolean {
    Atomics.store(this.#memory.words, this.#busyAt, 1);
    if (this.alive) return true;
    this.#leave();
    return false;
  }

  #leave(): void {
    const { words } = this.#memory;
    Atomics.store(words, this.#busyAt, 0);
    // Only a device that is closing may be waiting; an unneeded notify takes three times as long as the store.
    if (!this.alive) Atomics.notify(words, this.#busyAt);
  }

  #deliver(count: number, write: (offset: number) => number): number {
    const { words, layout } = this.#memory;
    const room = Math.min(this.#fill.peek(count), this.#rx.reserve(count));
    let done = 0;
    while (done < room) {
      const address = words[this.#fill.slot(done)]! + HEADROOM;
      const length = write(layout.frames + address);
      if (length < 0) break;
      const slot = this.#rx.slot(done);
      words[slot] = address;
      words[slot + 1] = 0;
      words[slot + 2] = length;
      words[slot + 3] = 0;
      done++;
    }
    if (done > 0) {
      this.#rx.commit(done);
      this.#fill.release(done);
      this.#wake();
    }
    return done;
  }

  #collect(count: number, read: (offset: number, length: number) => void): number {
    const { words, layout } = this.#memory;
    const ready = Math.min(this.#tx.peek(count), this.#completion.reserve(count));
    for (let i = 0; i < ready; i++) {
      const slot = this.#tx.slot(i);
      read(layout.frames + words[slot]!, words[slot + 2]!);
      const done = this.#completion.slot(i);
      words[done] = words[slot]!;
      words[done + 1] = 0;
    }
    if (ready > 0) {
      this.#completion.commit(ready);
      this.#tx.release(ready);
    }
    return ready;
  }

  /** Wakes the worker, as an interrupt does. The worker polls again after it has announced that it sleeps. */
  #wake(): void {
    const { words } = this.#memory;
    if (Atomics.load(words, this.#sleepingAt) === 0) return;
    Atomics.add(words, this.#doorbellAt, 1);
    Atomics.notify(words, this.#doorbellAt);
  }
}
