/**
 * Packets with the verdict DELIVER on the application's thread, copied out of the shared memory one queue after the other.
 * Belongs to the thread that opened the port.
 *
 * Workers never wait for the application: each queue's ring has some hundred entries, and a worker drops a packet if the ring
 * is full (`dropped.deliverFull`). The order is kept within a queue, and so within a flow.
 */
import { Readable } from 'node:stream';
import { CopyReceiver } from './memory/copies.ts';
import { PATH_NAMES } from './memory/layout.ts';
import type { Memory } from './memory/shared.ts';
import type { PathKey } from './statistics.ts';
import { invalid } from './validation.ts';

/** A packet that a handler delivered. The application owns it: no other thread uses its memory. */
export interface DeliveredPacket {
  /** From the Ethernet header on, without frame check sequence. */
  readonly data: Buffer;
  /** The queue whose worker delivered it. */
  readonly queue: number;
  /** The path that received it; 'host' is the machine's own stack. */
  readonly path: PathKey;
  /** RSS hash; 0 if none was computed. */
  readonly hash: number;
}

/** How delivered packets are read. */
export interface DeliveryOptions {
  /** Ends the iteration with an AbortError. */
  readonly signal?: AbortSignal;
  /** At most so many packets in one batch. Default 64. */
  readonly most?: number;
}

/** How often the rings are checked without a ring of the bell, which may be lost: with its worker, or with the coordinator. */
const MAX_WAIT_MILLIS = 1_000;

export class Deliveries {
  readonly #memory: Memory;
  readonly #receivers: readonly CopyReceiver[];
  readonly #bellAt: number;
  #reading = false;
  #closed = false;
  #next = 0;
  /** Packets from the rings that are not read yet: the last reader stopped in the middle of a batch. */
  #unread: DeliveredPacket[] = [];

  constructor(memory: Memory, port: number) {
    const { layout } = memory;
    this.#memory = memory;
    this.#receivers = Array.from(
      { length: layout.geometry.queues },
      (_, queue) => new CopyReceiver(memory, layout.delivery(port, queue), layout.deliveryEntries),
    );
    this.#bellAt = layout.deliveryBell(port) >> 2;
  }

  /** The iterations end after the packets that are already delivered. */
  close(): void {
    this.#closed = true;
    this.#ring();
  }

  /**
   * Arrays of all packets available, never empty. One iteration at a time.
   *
   * @throws ERR_OPTION_INVALID if another one has not ended; the signal's reason
   */
  async *batches({ signal, most = 64 }: DeliveryOptions = {}): AsyncGenerator<DeliveredPacket[], void> {
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
    const ring = (): void => this.#ring();
    signal?.addEventListener('abort', ring);
    try {
      for (;;) {
        signal?.throwIfAborted();
        // Reads `closed` and the bell before the rings: a packet that is delivered later changes the bell.
        const closed = this.#closed;
        const bell = Atomics.load(this.#memory.words, this.#bellAt);
        const batch = this.#unread.length > 0 ? this.#unread.splice(0, most) : this.#take(most);
        if (batch.length > 0) yield batch;
        else if (closed) return;
        else await Atomics.waitAsync(this.#memory.words, this.#bellAt, bell, MAX_WAIT_MILLIS).value;
      }
    } finally {
      this.#reading = false;
      signal?.removeEventListener('abort', ring);
    }
  }

  /** One packet after the other. As {@link batches}. */
  async *packets(options: DeliveryOptions = {}): AsyncGenerator<DeliveredPacket, void> {
    for await (const batch of this.batches(options)) {
      let next = 0;
      try {
        while (next < batch.length) {
          options.signal?.throwIfAborted();
          yield batch[next++]!;
        }
      } finally {
        if (next < batch.length) this.#unread = [...batch.slice(next), ...this.#unread];
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

  #take(most: number): DeliveredPacket[] {
    const { bytes } = this.#memory;
    const batch: DeliveredPacket[] = [];
    const count = this.#receivers.length;
    for (let turn = 0; turn < count && batch.length < most; turn++) {
      const queue = (this.#next + turn) % count;
      const receiver = this.#receivers[queue]!;
      const ready = receiver.ready(most - batch.length);
      for (let i = 0; i < ready; i++) {
        const at = receiver.offset(i);
        batch.push({
          data: Buffer.from(bytes.subarray(at, at + receiver.bytes(i))),
          queue,
          path: PATH_NAMES[receiver.path(i)] as PathKey,
          hash: receiver.hash(i),
        });
      }
      receiver.release(ready);
    }
    this.#next = (this.#next + 1) % count;
    return batch;
  }
}
