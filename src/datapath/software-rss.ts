/**
 * RSS in software: the queue of each flow, and the handoff rings to the other queues.
 *
 * The hash is Toeplitz with the port's key, and the port's redirection table names the queue. So a flow has the same worker on
 * either path, before, during and after a failover. The worker that polled a packet keeps it if the flow is its own, and
 * hands its descriptor over if not. If a device already distributes flows by that table, no packet is handed over; each hash
 * is still checked.
 *
 * Key, hash types and table may change while packets flow: see {@link SoftwareRss.update}.
 *
 * One object for each (port, worker). Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import { announce } from '../kernel/doorbell.ts';
import { millisBetween, type Shim } from '../kernel/shim.ts';
import { HandoffKind } from '../memory/bit-fields.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { Enumerable } from '../memory/frame-owners.ts';
import type { FramePool } from '../memory/frames.ts';
import { HandoffReceiver, HandoffSender } from '../memory/handoff.ts';
import type { PathId } from '../memory/layout.ts';
import { RssReader } from '../memory/rss-block.ts';
import type { Memory } from '../memory/shared.ts';
import type { HandoffRings } from '../paths/proxy-queue.ts';
import { retaIndex } from '../rss/redirection.ts';
import { type HashTables, RssHash } from '../rss/toeplitz.ts';
import type { Scope } from './scope.ts';

/** The longest wait for other workers before flows move, in ms. */
const MAX_HOLD = 100;

export interface SoftwareRssContext extends Scope {
  /** Undefined: packets stay on the queues that the devices choose. */
  readonly hashTables: HashTables | undefined;
  /** Whether the queue's worker is one without the port's handler, which keeps no packets if the table allows. */
  readonly fallback?: boolean;
}

export class SoftwareRss implements HandoffRings {
  /** To the other workers, by number; undefined for the worker itself. */
  readonly handoffs: readonly (HandoffSender | undefined)[];
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #pool: FramePool;
  readonly #burst: Burst;
  readonly #reader: RssReader;
  readonly #hashTables: HashTables | undefined;
  readonly #rss: RssHash | undefined;
  /** That of the reader. */
  readonly #table: Uint8Array;
  readonly #fallback: boolean;
  readonly #queue: number;
  readonly #counter: CounterIndex<QueueCounter>;
  #receivers: readonly HandoffReceiver[] = [];
  readonly #port: number;
  /** For each other worker: the cursor of what was handed over to it before the last change. */
  readonly #marks: Int32Array;
  #holds = false;
  #heldSince = 0;

  constructor({ shim, memory, pool, burst, port, queue, hashTables, fallback = false }: SoftwareRssContext) {
    const { layout } = memory;
    const queues = Array.from({ length: layout.geometry.queues }, (_, other) => other);
    this.handoffs = queues.map((to) =>
      to === queue ? undefined : new HandoffSender(memory, pool, port, queue, to),
    );
    this.#shim = shim;
    this.#memory = memory;
    this.#pool = pool;
    this.#burst = burst;
    this.#reader = new RssReader(memory, port);
    this.#table = this.#reader.table;
    this.#marks = new Int32Array(queues.length);
    this.#hashTables = hashTables;
    while (!this.#reader.take()); // it is written within a microsecond
    this.#rss = hashTables && new RssHash(memory.view, this.#reader.key);
    this.#rss?.use(hashTables!.of(this.#reader.key), this.#reader.hashTypes);
    this.#fallback = fallback;
    this.#queue = queue;
    this.#port = port;
    this.#counter = queueCounters(memory, port, queue);
  }

  /** The handoff rings into this worker: made once its pool is whole, because making them releases handled entries. */
  get receivers(): readonly HandoffReceiver[] {
    return this.#receivers;
  }

  /** Whether packets are hashed before they are handled. */
  get hashes(): boolean {
    return this.#rss !== undefined;
  }

  /** Whether packets are to wait in their paths: see {@link update}. */
  get holds(): boolean {
    return this.#holds;
  }

  /** For the pool: the frames in the handoff rings out of here. */
  get outgoing(): Enumerable[] {
    return this.handoffs.filter((handoff) => handoff !== undefined);
  }

  listen(): void {
    const { queues } = this.#memory.layout.geometry;
    this.#receivers = Array.from({ length: queues }, (_, from) => from)
      .filter((from) => from !== this.#queue)
      .map((from) => new HandoffReceiver(this.#memory, this.#pool, this.#port, from, this.#queue));
  }

  /**
   * At the start of a round: takes new settings, once they are there. Returns whether packets may be received.
   *
   * A flow that moves may have packets on the way to the worker that had it, and the next ones must not be handled before
   * them. So this worker receives none until the others have taken, handled and sent all that it had handed over to them.
   * Meanwhile packets wait in their paths, {@link MAX_HOLD} at most: a worker may be stuck.
   *
   * The flow keeps its order if it comes through one queue of the device, and each worker has a queue of the device to send
   * through.
   */
  update(): boolean {
    if (this.#reader.isStale) this.#take();
    if (!this.#holds) return true;
    if (this.#isPassed() || millisBetween(this.#heldSince, this.#shim.millis()) >= MAX_HOLD)
      this.#holds = false;
    return !this.#holds;
  }

  #take(): void {
    if (!this.#reader.take()) return;
    this.#rss?.use(this.#hashTables!.of(this.#reader.key), this.#reader.hashTypes);
    if (!this.#reader.ordered) return;
    for (const handoff of this.handoffs) if (handoff !== undefined) this.#marks[handoff.to] = handoff.cursor;
    if (!this.#holds) this.#heldSince = this.#shim.millis();
    this.#holds = true;
  }

  #isPassed(): boolean {
    for (const handoff of this.handoffs) {
      if (handoff !== undefined && !handoff.hasPassed(this.#marks[handoff.to]!)) return false;
    }
    return true;
  }

  /** Computes the hashes of the first `count` packets of the burst. */
  hash(count: number): void {
    const rss = this.#rss;
    const { offset, bytes, hash } = this.#burst;
    if (rss === undefined) hash.fill(0, 0, count);
    else for (let i = 0; i < count; i++) hash[i] = rss.of(offset[i]!, bytes[i]!);
  }

  /**
   * Hands over the packets of other queues, and moves the rest to the front of the burst. Returns how many stay.
   */
  distribute(count: number, path: PathId): number {
    this.hash(count);
    if (this.#rss === undefined) return this.#fallback ? this.#handOverAll(count, path) : count;
    const { offset, bytes, hash } = this.#burst;
    const table = this.#table;
    let kept = 0;
    let handed = 0;
    for (let i = 0; i < count; i++) {
      const at = offset[i]!;
      const to = table[retaIndex(hash[i]!)]!;
      if (to === this.#queue) {
        offset[kept] = at;
        bytes[kept] = bytes[i]!;
        hash[kept++] = hash[i]!;
        continue;
      }
      if (this.#push(to, at, bytes[i]!, path, hash[i]!)) handed++;
    }
    if (handed > 0) this.#countHandedOver(handed);
    return kept;
  }

  /** Without a hash: all packets of this queue go to the one that the table names for it. */
  #handOverAll(count: number, path: PathId): number {
    const { offset, bytes, hash } = this.#burst;
    const to = this.#table[retaIndex(this.#queue)]!;
    if (to === this.#queue) return count;
    let handed = 0;
    for (let i = 0; i < count; i++) if (this.#push(to, offset[i]!, bytes[i]!, path, hash[i]!)) handed++;
    if (handed > 0) this.#countHandedOver(handed);
    return 0;
  }

  /** False if the handoff ring is full: the packet is dropped and counted. */
  #push(to: number, at: number, bytes: number, path: PathId, hash: number): boolean {
    const handoff = this.handoffs[to]!;
    if (handoff.room(1) === 1) {
      handoff.push(at, bytes, HandoffKind.PACKET, path, hash);
      return true;
    }
    this.#memory.doubles[this.#counter.dropHandoffFull]!++;
    this.#pool.put(at - this.#memory.layout.frames);
    return false;
  }

  #countHandedOver(packets: number): void {
    this.#memory.doubles[this.#counter.handedOver]! += packets;
    this.commit();
  }

  /** Publishes the staged packets and wakes the receivers. */
  commit(): void {
    for (const handoff of this.handoffs) {
      if (handoff === undefined || handoff.commit() === 0) continue;
      announce(this.#shim, this.#memory, handoff.to);
    }
  }
}
