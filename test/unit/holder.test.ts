import { expect, test } from 'vitest';
import {
  codeOf,
  Holder,
  handHolder,
  holderTag,
  homeHolder,
  laneHolder,
  purposeOf,
  tagOf,
  tagQueue,
  workerOf,
} from '../../src/memory/holder.ts';

const QUEUES = Array.from({ length: 64 }, (_, queue) => queue);
const PORTS = Array.from({ length: 16 }, (_, port) => port);

test('a holder fits 16 bits, names one place, and gives back what was put into it', () => {
  const seen = new Set<number>([Holder.NONE]);
  const isNew = (holder: number): void => {
    if (holder <= 0 || holder > 0xffff || seen.has(holder)) throw new Error(`holder ${holder}`);
    seen.add(holder);
  };
  for (const queue of QUEUES) {
    for (const port of PORTS) {
      for (const path of [1, 2, 3] as const) {
        for (const purpose of [Holder.FILL, Holder.TX]) {
          const holder = purpose | holderTag(queue, port, path);
          isNew(holder);
          expect([purposeOf(holder), tagOf(holder), tagQueue(tagOf(holder))]).toEqual([
            ...[purpose, holderTag(queue, port, path), queue],
          ]);
        }
      }
    }
    isNew(handHolder(queue));
    expect([codeOf(handHolder(queue)), workerOf(handHolder(queue))]).toEqual([Holder.HAND, queue]);
    for (const to of QUEUES) {
      for (const [code, holder] of [
        [Holder.LANE, laneHolder(queue, to)],
        [Holder.HOME, homeHolder(queue, to)],
      ] as const) {
        isNew(holder);
        expect([purposeOf(holder), codeOf(holder), workerOf(holder)]).toEqual([0, code, queue]);
      }
    }
  }
});
