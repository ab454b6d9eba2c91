/**
 * Packets with the verdict DELIVER, or TEE beside another, on the application's thread: by descriptor, where the worker has received
 * them, one queue after the other. Belongs to the thread that opened the port.
 *
 * Workers never wait for the application: each queue's ring has a quarter of its worker's frames at most, and a worker drops a
 * packet if the ring is full (`dropped.deliverFull`). The order is kept within a queue, and so within a flow.
 */
import { Readable } from 'node:stream';
import { setImmediate as macrotask } from 'node:timers/promises';
import { DeliveredBurst, type DeliveredPacket, MAX_DELIVERED } from './delivered-burst.ts';
import { DeliveryReceiver } from './memory/delivery-ring.ts';
import type { Memory } from './memory/shared.ts';
import { invalid } from './validation.ts';

/** How delivered packets are read. */
export interface DeliveryOptions {
  /** Ends the iteration with an AbortError. */
  readonly signal?: AbortSignal;
  /** At most so many packets in one batch or burst, 256 in any case. Default 64, and 256 of `bursts()`. */
  readonly most?: number;
}

/** How often the rings are checked without a ring of the bell, which may be lost: with its worker, or with the coordinator. */
const MAX_WAIT_MILLIS = 1_000;

/** Bursts after which timers and sockets of the thread have their turn, while packets keep coming. */
const BURSTS_IN_A_ROW = 16;

export class Deliveries {
  readonly #memory: Memory;
  readonly #burst: DeliveredBurst;
  readonly #receivers: readonly DeliveryReceiver[];
  readonly #bellAt: number;
  readonly #tell: (reads: boolean) => void;
  #reading = false;
  #closed = false;
  #next = 0;
  /** Packets of the present burst that the reader has got: the others stay for the next reader. */
  #got = 0;

  /** @param reading is told when a reader begins and ends */
  constructor(memory: Memory, port: number, reading: (reads: boolean) => void = () => {}) {
    const { layout } = memory;
    this.#memory = memory;
    this.#tell = reading;
    const burst = new DeliveredBurst(memory);
    this.#burst = burst;
    this.#receivers = Array.from(
      { length: layout.geometry.queues },
      (_, queue) => new DeliveryReceiver(memory, burst, port, queue),
    );
    this.#bellAt = layout.deliveryBell(port) >> 2;
  }

  /** The iterations end after the packets that are already delivered. */
  close(): void {
    this.#closed = true;
    this.#ring();
  }

  /**
   * The packets in place, as many as are available in a queue. Each burst is good until the next step. One iteration at a time.
   *
   * @throws ERR_OPTION_INVALID if another one has not ended; the signal's reason
   */
  async *bursts({
    signal,
    most = MAX_DELIVERED,
  }: DeliveryOptions = {}): AsyncGenerator<DeliveredBurst, void> {
    if (!Number.isInteger(most) || most < 1) {
      invalid('most', `it must be a whole number from 1 on, not ${String(most)}`);
    }
    if (this.#reading) {
      invalid(
        'packets',
        'the packets of this port have a reader already',
        'A port has one reader at a time: have that one distribute the packets.',
      );
    }
    this.#reading = true;
    this.#tell(true);
    const ring = (): void => this.#ring();
    const watch = setInterval(ring, MAX_WAIT_MILLIS).unref();
    signal?.addEventListener('abort', ring);
    try {
      for (let row = 0; ; row++) {
        signal?.throwIfAborted();
        // Reads `closed` and the bell before the rings: a packet that is delivered later changes the bell.
        const closed = this.#closed;
        const bell = Atomics.load(this.#memory.words, this.#bellAt);
        const receiver = this.#read(Math.min(most, MAX_DELIVERED));
        if (receiver !== undefined) {
          try {
            yield this.#burst;
          } finally {
            receiver.release(this.#got);
          }
          if (row % BURSTS_IN_A_ROW === BURSTS_IN_A_ROW - 1) await macrotask();
        } else if (closed) return;
        else await Atomics.waitAsync(this.#memory.words, this.#bellAt, bell).value;
      }
    } finally {
      this.#reading = false;
      this.#tell(false);
      clearInterval(watch);
      signal?.removeEventListener('abort', ring);
    }
  }

  /** Arrays of copies of all packets available in a queue, never empty. As {@link bursts}. */
  async *batches(options: DeliveryOptions = {}): AsyncGenerator<DeliveredPacket[], void> {
    for await (const burst of this.bursts({ most: 64, ...options })) {
      yield Array.from({ length: burst.length }, (_, i) => burst.copy(i));
    }
  }

  /** A copy of one packet after the other. As {@link bursts}. */
  async *packets(options: DeliveryOptions = {}): AsyncGenerator<DeliveredPacket, void> {
    for await (const burst of this.bursts({ most: 64, ...options })) {
      this.#got = 0;
      while (this.#got < burst.length) {
        options.signal?.throwIfAborted();
        yield burst.copy(this.#got++);
      }
    }
  }

  /** The packets as a stream of objects; destroying it ends the reading. */
  readable(options: DeliveryOptions = {}): Readable {
    const stopped = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, stopped.signal]) : stopped.signal;
    const packets = this.packets({ ...options, signal });
    // NB: not Readable.from, whose destroy would wait for the next packet.
    return new Readable({
      objectMode: true,
      read() {
        packets.next().then(
          ({ done, value }) => this.push(done ? null : value),
          (error: Error) => this.destroy(error),
        );
      },
      destroy(error, done) {
        stopped.abort();
        packets.return().then(
          () => done(error),
          () => done(error),
        );
      },
    });
  }

  #ring(): void {
    Atomics.add(this.#memory.words, this.#bellAt, 1);
    Atomics.notify(this.#memory.words, this.#bellAt);
  }

  /** Reads the next queue that has packets to the burst, `most` at most. Undefined if none has. */
  #read(most: number): DeliveryReceiver | undefined {
    const burst = this.#burst;
    const count = this.#receivers.length;
    for (let turn = 0; turn < count; turn++) {
      const queue = this.#next;
      this.#next = queue + 1 === count ? 0 : queue + 1;
      const receiver = this.#receivers[queue]!;
      const packets = receiver.read(most);
      if (packets === 0) continue;
      burst.queue = queue;
      burst.length = packets;
      this.#got = packets;
      return receiver;
    }
    return undefined;
  }
}
