/**
 * In-place mode: the handler's own loop moves packets from the receive ring of a path queue to its transmit ring
 * (docs/wasm-abi.md, `in_place`). This file prepares that loop and completes it.
 *
 * A worker may die in the loop. It has written to the transmit ring, but has staged nothing and changed no owner, so all
 * packets are still in the receive ring. After the loop the sent packets are staged as any burst, see descriptor-rings.ts; then
 * the caller carries out the verdicts on the others, which are in the burst; then all are released.
 *
 * Belongs to the worker thread.
 */
import type { QueueAddress } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { BurstArray, InPlaceWord } from '../memory/wasm-abi.ts';
import type { ReceiveRing, TransmitRing } from './descriptor-rings.ts';

export class InPlaceRings {
  /** Byte offset of the loop's arguments and results: `InPlaceWord` in memory/wasm-abi.ts. */
  readonly at: number;
  /** Cursors of the first packet, and of the slot for the first that is sent. */
  from = 0;
  to = 0;
  readonly #words: Int32Array;
  readonly #in: ReceiveRing;
  readonly #out: TransmitRing;
  readonly #results: number;
  readonly #burstBytes: number;
  readonly #maxPacketBytesAt: number;

  constructor(memory: Memory, address: QueueAddress, received: ReceiveRing, sent: TransmitRing) {
    const { words, layout } = memory;
    const { queue } = address;
    const slot = memory.slot(address);
    this.at = slot.offset('inPlace');
    this.#words = words;
    this.#in = received;
    this.#out = sent;
    this.#results = (this.at + InPlaceWord.done) >> 2;
    this.#burstBytes = (layout.burst(queue) + BurstArray.bytes) >> 2;
    this.#maxPacketBytesAt = slot.at('maxPacketBytes');
    const set = (word: number, value: number): void => {
      words[(this.at + word) >> 2] = value;
    };
    set(InPlaceWord.received, received.ring.slotsAt);
    set(InPlaceWord.receivedMask, received.ring.mask);
    set(InPlaceWord.sent, sent.ring.slotsAt);
    set(InPlaceWord.sentMask, sent.ring.mask);
    set(InPlaceWord.frames, layout.frames);
    set(InPlaceWord.burst, layout.burst(queue));
  }

  /** Before the loop. Returns how many packets, `most` at most, wait and could all be sent. */
  begin(most: number): number {
    const words = this.#words;
    const results = this.#results;
    this.from = this.#in.ring.cursor;
    this.to = this.#out.end;
    words[results] = 0;
    words[results + 1] = 0;
    words[results + 2] = 0;
    words[results + 3] = 0;
    words[(this.at + InPlaceWord.maxPacketBytes) >> 2] = words[this.#maxPacketBytesAt]!;
    return this.#in.ring.peek(this.#out.room(most));
  }

  /** Packets that the loop has handled. */
  get done(): number {
    return this.#words[this.#results]!;
  }

  /** After the loop, or its trap: counts the handled packets and stages the sent ones. Returns how many are in the burst. */
  end(): number {
    const words = this.#words;
    const results = this.#results;
    const done = words[results]!;
    const bytes = words[results + 1]!;
    const left = words[results + 3]!;
    let unsent = 0;
    for (let i = 0; i < left; i++) unsent += words[this.#burstBytes + i]!;
    this.#in.count(done, bytes);
    this.#out.stage(words[results + 2]!, bytes - unsent);
    return left;
  }
}
