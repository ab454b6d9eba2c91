/**
 * Forwarding from port to port: the FORWARD verdict at one end, arriving packets at the other. relay.ts has the way to
 * another memory. Belongs to the worker thread.
 */
import type { CopySender } from '../memory/copies.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { HEADROOM } from '../memory/layout.ts';
import type { Scope } from './scope.ts';

/** Copies to a port of another memory. */
export interface Relay {
  readonly sender: CopySender;
  /** Number of the port there. */
  readonly port: number;
  /** False once those ports are closed. */
  readonly open: boolean;
  /** Wakes the receiver if copies were made. */
  flush(): void;
  /** Gives the relay up; another memory's worker may claim it. */
  close(): void;
}

/** The ports that packets may be forwarded to, by number: of this memory, then of others. */
export interface ForwardTable {
  /** This worker's ends of the ports of the same memory. */
  readonly ports: readonly ForwardPort[];
  /** Relays to ports of other memories: the first is number `ports.length`. */
  readonly relays: readonly Relay[];
}

/** Transmits, drops and frees. */
interface Carrier {
  takeFrame(): number;
  transmit(offset: number, length: number): void;
  drop(offset: number, why: number): void;
  put(offset: number): void;
}

export class ForwardPort {
  readonly #table: ForwardTable;
  readonly #carrier: Carrier;
  readonly #pool: FramePool;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #maxPacketBytes: number;

  constructor({ memory, pool, port, queue }: Scope, table: ForwardTable, carrier: Carrier) {
    this.#table = table;
    this.#carrier = carrier;
    this.#pool = pool;
    this.#bytes = memory.bytes;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#maxPacketBytes = memory.layout.geometry.frameSize - HEADROOM;
  }

  /** Forwards a packet from this port to the one with that number. */
  forward(target: number, offset: number, length: number): void {
    const doubles = this.#doubles;
    const counter = this.#counter;
    const { ports, relays } = this.#table;
    const port = ports[target];
    if (port !== undefined) {
      doubles[counter.forwarded]!++;
      port.accept(offset, length);
      return;
    }
    const relay = relays[target - ports.length];
    if (relay === undefined || !relay.open) this.#carrier.drop(offset, counter.dropNoPort);
    else if (length > relay.sender.maxPacketBytes) this.#carrier.drop(offset, counter.dropBadLength);
    else if (relay.sender.push(offset, length, relay.port, 0, 0)) {
      doubles[counter.forwarded]!++;
      doubles[counter.forwardedCopies]!++;
      this.#carrier.put(offset);
    } else this.#carrier.drop(offset, counter.dropTxFull);
  }

  /** Transmits a packet that another port has forwarded to this one. */
  accept(offset: number, length: number): void {
    this.#doubles[this.#counter.accepted]!++;
    this.#carrier.transmit(offset, length);
  }

  /** Transmits a copy that has come from a port of another memory. */
  acceptCopy(at: number, length: number): void {
    const doubles = this.#doubles;
    const counter = this.#counter;
    doubles[counter.accepted]!++;
    // That memory's frames may be larger than these.
    if (length > this.#maxPacketBytes) doubles[counter.dropBadLength]!++;
    else if (this.#pool.count === 0) doubles[counter.dropNoFrame]!++;
    else {
      const frame = this.#carrier.takeFrame();
      this.#bytes.copyWithin(frame, at, at + length);
      this.#carrier.transmit(frame, length);
    }
  }
}
