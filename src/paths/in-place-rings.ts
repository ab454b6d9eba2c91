/**
 * In-place mode: packets go from the receive ring of a path queue to its transmit ring in the loop that decides on them, which is
 * the handler's own (docs/wasm-abi.md, `in_place`). Here is what comes before that loop and after it.
 *
 * A worker may die in it: what it has written to the transmit ring is not staged, and no frame was given to anybody,
 * so the packets are in the receive ring as if nothing had been. Once it has returned, what it sends is staged as
 * any other burst, see transmit-ring.ts; then the rest, which lies in the burst, is dealt with; then all are released.
 *
 * Belongs to the worker thread.
 */
import type { QueueAddress } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { BurstArray, InPlaceWord } from '../memory/wasm-abi.ts';
import type { ReceiveRing } from './receive-ring.ts';
import type { TransmitRing } from './transmit-ring.ts';

export class InPlaceRings {
  readonly at: number;
  from = 0;
  to = 0;
  readonly #words: Int32Array;
  readonly #in: ReceiveRing;
  readonly #out: TransmitRing;
  readonly #answers: number;
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
    this.#answers = (this.at + InPlaceWord.done) >> 2;
    this.#burstBytes = (layout.burst(queue) + BurstArray.bytes) >> 2;
    this.#maxPacketBytesAt = slot.at('maxPacketBytes');
    const say = (word: number, value: number): void => {
      words[(this.at + word) >> 2] = value;
    };
    say(InPlaceWord.received, received.ring.slotsAt);
    say(InPlaceWord.receivedMask, received.ring.mask);
    say(InPlaceWord.sent, sent.ring.slotsAt);
    say(InPlaceWord.sentMask, sent.ring.mask);
    say(InPlaceWord.frames, layout.frames);
    say(InPlaceWord.burst, layout.burst(queue));
  }

  begin(most: number): number {
    const words = this.#words;
    const answers = this.#answers;
    this.from = this.#in.ring.cursor;
    this.to = this.#out.end;
    words[answers] = 0;
    words[answers + 1] = 0;
    words[answers + 2] = 0;
    words[answers + 3] = 0;
    words[(this.at + InPlaceWord.maxPacketBytes) >> 2] = words[this.#maxPacketBytesAt]!;
    return this.#in.ring.peek(this.#out.room(most));
  }

  get done(): number {
    return this.#words[this.#answers]!;
  }

  end(): number {
    const words = this.#words;
    const answers = this.#answers;
    const done = words[answers]!;
    const bytes = words[answers + 1]!;
    const left = words[answers + 3]!;
    let unsent = 0;
    for (let i = 0; i < left; i++) unsent += words[this.#burstBytes + i]!;
    this.#in.count(done, bytes);
    this.#out.stage(words[answers + 2]!, bytes - unsent);
    return left;
  }
}
