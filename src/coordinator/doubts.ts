/**
 * Links that workers doubt: a device drops what they transmit, or its driver says that it is down. A word of each path slot
 * asks whether the device has a link, and has the answer. Supervisor's and coordinator's threads.
 */
import { Doubt, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';

/** Whether a worker waits for an answer about this path. */
export function isDoubted(memory: Memory, port: number, path: PathId): boolean {
  return doubtWords(memory, port, path).some((at) => Atomics.load(memory.words, at) === Doubt.ASKED);
}

/** The device has its link. */
export function answerLinked(memory: Memory, port: number, path: PathId): void {
  for (const at of doubtWords(memory, port, path)) {
    Atomics.compareExchange(memory.words, at, Doubt.ASKED, Doubt.LINKED);
  }
}

function doubtWords(memory: Memory, port: number, path: PathId): number[] {
  const queues = Array.from({ length: memory.layout.geometry.queues }, (_, queue) => queue);
  return queues.map((queue) => memory.slot({ port, queue, path }).at('doubt'));
}
