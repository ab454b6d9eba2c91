import { expect, test } from 'vitest';
import {
  codeOf,
  FrameOwner,
  handOwner,
  handoffOwner,
  ownerTag,
  purposeOf,
  returnOwner,
  tagOf,
  tagQueue,
  workerOf,
} from '../../../src/memory/bit-fields.ts';

const QUEUES = Array.from({ length: 64 }, (_, queue) => queue);
const PORTS = Array.from({ length: 16 }, (_, port) => port);

test('a frame owner fits 16 bits and decodes to the place that it was made from', () => {
  const seen = new Set<number>([FrameOwner.NONE]);
  // All of them are looked at and one assertion is made at the end: 14,000 of vitest's take seconds.
  const wrong: string[] = [];
  const look = (owner: number, ...pairs: (readonly [is: number, should: number])[]): void => {
    if (owner <= 0 || owner > 0xffff) wrong.push(`${owner} does not fit`);
    if (seen.has(owner)) wrong.push(`${owner} names two places`);
    seen.add(owner);
    for (const [is, should] of pairs) if (is !== should) wrong.push(`${owner}: ${is} is not ${should}`);
  };
  for (const queue of QUEUES) {
    for (const port of PORTS) {
      for (const path of [1, 2, 3] as const) {
        for (const purpose of [FrameOwner.FILL, FrameOwner.TX]) {
          const tag = ownerTag(queue, port, path);
          const owner = purpose | tag;
          look(owner, [purposeOf(owner), purpose], [tagOf(owner), tag], [tagQueue(tagOf(owner)), queue]);
        }
      }
    }
    const hand = handOwner(queue);
    look(hand, [purposeOf(hand), 0], [codeOf(hand), FrameOwner.HAND], [workerOf(hand), queue]);
    for (const to of QUEUES) {
      const handoff = handoffOwner(queue, to);
      look(
        handoff,
        [purposeOf(handoff), 0],
        [codeOf(handoff), FrameOwner.HANDOFF],
        [workerOf(handoff), queue],
      );
      const home = returnOwner(queue, to);
      look(home, [purposeOf(home), 0], [codeOf(home), FrameOwner.RETURN], [workerOf(home), queue]);
    }
  }
  expect(wrong).toEqual([]);
  expect(seen.size).toBe(1 + 64 * (16 * 3 * 2 + 1 + 2 * 64));
});
