/**
 * Packets of the host path, which are in buffers of that path's own and go back to it at once. So the verdicts are carried
 * out on copies, cut into segments where a packet is too long for a path. Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import { FAILED, isKept, TX } from '../handler/handler.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { HEADROOM } from '../memory/layout.ts';
import { isUnfinished, segmentBytes } from '../memory/offload.ts';
import { Headers } from '../net/headers.ts';
import { finishChecksum } from '../offload/finish.ts';
import { Segmenter } from '../offload/segment.ts';
import type { AttachedPath } from '../paths/attached-path.ts';
import type { Scope } from './scope.ts';
import type { TransmitOffloads } from './transmit-offloads.ts';

/** Takes the copies. */
interface Carrier {
  takeFrame(): number;
  /** Carries out one verdict on one packet in a frame. */
  carryOut(i: number, verdict: number, target: number, at: number, length: number): void;
  drop(offset: number, why: number): void;
  /** A packet was given to the path that owns the queue. */
  sent(offset: number, length: number): void;
}

export class HostPackets {
  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #carrier: Carrier;
  /** Undefined if the handler orders nothing. */
  readonly #offloads: TransmitOffloads | undefined;
  readonly #segmenter: Segmenter;
  readonly #headers = new Headers();
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #maxPacketBytes: number;

  constructor(
    { memory, pool, burst, port, queue }: Scope,
    carrier: Carrier,
    offloads?: TransmitOffloads | undefined,
  ) {
    this.#offloads = offloads;
    this.#burst = burst;
    this.#pool = pool;
    this.#carrier = carrier;
    this.#segmenter = new Segmenter(memory);
    this.#view = memory.view;
    this.#bytes = memory.bytes;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#maxPacketBytes = memory.layout.geometry.frameSize - HEADROOM;
  }

  /**
   * Carries out the verdicts of the first `count` packets.
   *
   * @param out the path that owns the queue, which may send a large segment uncut
   */
  settle(count: number, out: AttachedPath | undefined): void {
    const { offset, bytes, offload, verdict, tag } = this.#burst;
    const doubles = this.#doubles;
    const counter = this.#counter;
    for (let i = 0; i < count; i++) {
      const decided = verdict[i]!;
      if (!isKept(decided)) {
        doubles[decided === FAILED ? counter.dropHandlerError : counter.dropVerdict]!++;
        continue;
      }
      if (segmentBytes(offload[i]!) === 0) {
        this.#copyOut(i, decided);
        continue;
      }
      const whole = decided === TX && (this.#offloads === undefined || tag[i] === 0);
      if (whole && out?.tx.sendSegment?.(offset[i]!, bytes[i]!, offload[i]!)) {
        this.#carrier.sent(offset[i]!, bytes[i]!);
        continue;
      }
      const pieces = this.#segmenter.begin(offset[i]!, bytes[i]!, offload[i]!, this.#maxPacketBytes);
      if (pieces === 0) doubles[counter.dropUncut]!++;
      for (let piece = 0; piece < pieces; piece++) {
        if (piece > 0) doubles[counter.segments]!++;
        if (this.#pool.count === 0) {
          doubles[counter.dropNoFrame]!++;
          break;
        }
        const frame = this.#carrier.takeFrame();
        this.#carryOut(i, decided, frame, this.#segmenter.write(piece, frame), 0);
      }
    }
  }

  /** A packet that needs no cutting. */
  #copyOut(i: number, verdict: number): void {
    const { offset, bytes, offload } = this.#burst;
    const at = offset[i]!;
    const length = bytes[i]!;
    const counter = this.#counter;
    if (length > this.#maxPacketBytes) {
      this.#doubles[counter.dropUncut]!++;
      return;
    }
    if (this.#pool.count === 0) {
      this.#doubles[counter.dropNoFrame]!++;
      return;
    }
    const headers = this.#headers;
    const left = this.#offloads === undefined && isUnfinished(offload[i]!); // else it is carried out with the other orders
    if (left && headers.parse(this.#view, at, length)) {
      finishChecksum(this.#view, at, headers);
    }
    const frame = this.#carrier.takeFrame();
    this.#bytes.copyWithin(frame, at, at + length);
    this.#carryOut(i, verdict, frame, length, offload[i]!);
  }

  /** Carries out the verdict on a copy, with what the handler has ordered. */
  #carryOut(i: number, verdict: number, frame: number, length: number, offload: number): void {
    const offloads = this.#offloads;
    const { target, tag } = this.#burst;
    if (offloads === undefined) this.#carrier.carryOut(i, verdict, target[i]!, frame, length);
    else if (offloads.apply(frame, length, offload, tag[i]!)) {
      this.#carrier.carryOut(i, verdict, target[i]!, offloads.offset, offloads.length);
    } else this.#carrier.drop(frame, this.#counter.dropBadOffload);
  }
}
