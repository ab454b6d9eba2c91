/** Wakes a worker that sleeps, on whatever it sleeps: its eventfd, or the doorbell word. Any thread. */
import { check } from '../errors.ts';
import type { Memory } from '../memory/shared.ts';
import type { Shim } from './shim.ts';

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/**
 * Opens an eventfd for each worker, and one by which all of them call the coordinator. The supervisor's: they outlive
 * workers and coordinators. @throws ERR_KERNEL; {@link closeDoorbells} closes what is open
 */
export function openDoorbells(shim: Shim, { workers }: Memory): void {
  const coordinatorFd = check(shim.eventfd(), 'eventfd2');
  for (const worker of workers) {
    worker.coordinatorFd = coordinatorFd;
    worker.doorbellFd = check(shim.eventfd(), 'eventfd2');
  }
}

/** After the threads that use them have ended. Again, it does nothing. */
export function closeDoorbells(shim: Shim, { words, workers }: Memory): void {
  const places = workers.flatMap((worker) => [worker.at('coordinatorFd'), worker.at('doorbellFd')]);
  for (const fd of new Set(places.map((at) => words[at]!))) {
    if (fd > 0) shim.close(fd);
    for (const at of places) if (words[at] === fd) words[at] = 0; // others may have that number now
  }
}

/** Has the coordinator look at what workers have written. */
export function callCoordinator(shim: Shim, { workers }: Memory): void {
  shim.write(workers[0]!.coordinatorFd, ONE, 8);
}

export function ringDoorbell(shim: Shim, memory: Memory, queue: number): void {
  const { words, workers } = memory;
  const worker = workers[queue]!;
  Atomics.add(words, worker.at('doorbell'), 1);
  Atomics.notify(words, worker.at('doorbell'));
  shim.write(worker.doorbellFd, ONE, 8);
}

/**
 * Tells a worker that something was published for it, and wakes it if it sleeps. Two Atomics when it is
 * awake. It says "asleep" before it looks at its inbox for the last time, and we count the inbox up before
 * we look whether it sleeps: at least one of us sees the other.
 */
export function announce(shim: Shim, memory: Memory, queue: number): void {
  const { words, workers } = memory;
  const worker = workers[queue]!;
  Atomics.add(words, worker.at('inbox'), 1);
  const sleeping = worker.at('sleeping');
  if (Atomics.load(words, sleeping) === 0) return;
  if (Atomics.exchange(words, sleeping, 0) === 1) ringDoorbell(shim, memory, queue);
}
