/** Wakes a worker that sleeps, on whatever it sleeps: its eventfd, or the doorbell word. Any thread. */
import { check } from '../errors.ts';
import { WorkerBlock } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { Shim } from './shim.ts';

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/**
 * Opens an eventfd for each worker, and one by which all of them call the coordinator. The supervisor's: they outlive
 * workers and coordinators. @throws ERR_KERNEL; {@link closeDoorbells} closes what is open
 */
export function openDoorbells(shim: Shim, { words, layout }: Memory): void {
  const attention = check(shim.eventfd(), 'eventfd2');
  for (let queue = 0; queue < layout.geometry.queues; queue++) {
    const block = layout.worker(queue);
    words[(block + WorkerBlock.attentionFd) >> 2] = attention;
    words[(block + WorkerBlock.doorbellFd) >> 2] = check(shim.eventfd(), 'eventfd2');
  }
}

/** After the threads that use them have ended. Again, it does nothing. */
export function closeDoorbells(shim: Shim, { words, layout }: Memory): void {
  const places = Array.from({ length: layout.geometry.queues }, (_, queue) => layout.worker(queue)).flatMap(
    (block) => [(block + WorkerBlock.attentionFd) >> 2, (block + WorkerBlock.doorbellFd) >> 2],
  );
  for (const fd of new Set(places.map((at) => words[at]!))) {
    if (fd > 0) shim.close(fd);
    for (const at of places) if (words[at] === fd) words[at] = 0; // others may have that number now
  }
}

export function ringDoorbell(shim: Shim, memory: Memory, queue: number): void {
  const { words, layout } = memory;
  const block = layout.worker(queue);
  Atomics.add(words, (block + WorkerBlock.doorbell) >> 2, 1);
  Atomics.notify(words, (block + WorkerBlock.doorbell) >> 2);
  shim.write(words[(block + WorkerBlock.doorbellFd) >> 2]!, ONE, 8);
}

/**
 * Tells a worker that something was published for it, and wakes it if it sleeps. Two Atomics when it is
 * awake. It says "asleep" before it looks at its inbox for the last time, and we count the inbox up before
 * we look whether it sleeps: at least one of us sees the other.
 */
export function announce(shim: Shim, memory: Memory, queue: number): void {
  const { words, layout } = memory;
  const block = layout.worker(queue);
  Atomics.add(words, (block + WorkerBlock.inbox) >> 2, 1);
  const sleeping = (block + WorkerBlock.sleeping) >> 2;
  if (Atomics.load(words, sleeping) === 0) return;
  if (Atomics.exchange(words, sleeping, 0) === 1) ringDoorbell(shim, memory, queue);
}
