import { expect, test } from 'vitest';
import {
  codeOf,
  Holder,
  handHolder,
  handoffHolder,
  holderTag,
  purposeOf,
  returnHolder,
  tagOf,
  tagQueue,
  workerOf,
} from '../../src/memory/holder.ts';

const QUEUES = Array.from({ length: 64 }, (_, queue) => queue);
const PORTS = Array.from({ length: 16 }, (_, port) => port);

test('a holder fits 16 bits, names one place, and gives back what was put into it', () => {
  const seen = new Set<number>([Holder.NONE]);
  // All of them are looked at and one assertion is made at the end: 14,000 of vitest's take seconds.
  const wrong: string[] = [];
  const look = (holder: number, ...pairs: (readonly [is: number, should: number])[]): void => {
    if (holder <= 0 || holder > 0xffff) wrong.push(`${holder} does not fit`);
    if (seen.has(holder)) wrong.push(`${holder} names two places`);
    seen.add(holder);
    for (const [is, should] of pairs) if (is !== should) wrong.push(`${holder}: ${is} is not ${should}`);
  };
  for (const queue of QUEUES) {
    for (const port of PORTS) {
      for (const path of [1, 2, 3] as const) {
        for (const purpose of [Holder.FILL, Holder.TX]) {
          const tag = holderTag(queue, port, path);
          const holder = purpose | tag;
          look(holder, [purposeOf(holder), purpose], [tagOf(holder), tag], [tagQueue(tagOf(holder)), queue]);
        }
      }
    }
    const hand = handHolder(queue);
    look(hand, [purposeOf(hand), 0], [codeOf(hand), Holder.HAND], [workerOf(hand), queue]);
    for (const to of QUEUES) {
      const handoff = handoffHolder(queue, to);
      look(handoff, [purposeOf(handoff), 0], [codeOf(handoff), Holder.HANDOFF], [workerOf(handoff), queue]);
      const home = returnHolder(queue, to);
      look(home, [purposeOf(home), 0], [codeOf(home), Holder.RETURN], [workerOf(home), queue]);
    }
  }
  expect(wrong).toEqual([]);
  expect(seen.size).toBe(1 + 64 * (16 * 3 * 2 + 1 + 2 * 64));
});
