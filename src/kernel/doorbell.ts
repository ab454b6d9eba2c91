/**
 * Doorbells wake a sleeping worker, and the supervisor. Any thread.
 *
 * A worker whose paths have descriptors sleeps in poll(2), so an eventfd wakes it. A worker with a memory path sleeps in
 * `Atomics.wait` on a word, because its peer has no shim and cannot write an eventfd. A caller need not know which: it
 * increments the word, then writes the eventfd. The eventfds outlive worker threads.
 */
import { check } from '../errors.ts';
import type { Memory } from '../memory/shared.ts';
import type { Shim } from './shim.ts';

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/**
 * Opens an eventfd for each worker, and one for the supervisor. Supervisor thread.
 *
 * @throws ERR_KERNEL; {@link closeDoorbells} closes those already open
 */
export function openDoorbells(shim: Shim, { workers }: Memory): void {
  const supervisorFd = check(shim.eventfd(), 'eventfd2');
  for (const worker of workers) {
    worker.supervisorFd = supervisorFd;
    worker.doorbellFd = check(shim.eventfd(), 'eventfd2');
  }
}

/**
 * Call it after the threads that use them have ended, on the application's thread: it rings them as long as it likes, and then
 * finds that they are gone. A second call does nothing.
 */
export function closeDoorbells(shim: Shim, { words, workers }: Memory): void {
  const places = workers.flatMap((worker) => [worker.at('supervisorFd'), worker.at('doorbellFd')]);
  for (const fd of new Set(places.map((at) => words[at]!))) {
    shim.close(fd);
    for (const at of places) if (words[at] === fd) words[at] = 0; // the number may be reused now
  }
}

/** Wakes the supervisor, which then reads what workers have written. */
export function callSupervisor(shim: Shim, { workers }: Memory): void {
  shim.write(workers[0]!.supervisorFd, ONE, 8);
}

/** Wakes a worker, whether it sleeps or is about to. */
export function ringDoorbell(shim: Shim, memory: Memory, queue: number): void {
  const { words, workers } = memory;
  const worker = workers[queue]!;
  Atomics.add(words, worker.at('doorbell'), 1);
  Atomics.notify(words, worker.at('doorbell'));
  const fd = worker.doorbellFd;
  if (fd > 0) shim.write(fd, ONE, 8); // closed, it is 0, which is standard input
}

/**
 * Signals that something was published for a worker, and wakes the worker if it sleeps. Costs two Atomics if it is awake.
 *
 * No wake-up is lost: the worker sets `sleeping` before it reads its inbox for the last time, and the caller increments
 * the inbox before it reads `sleeping`. So at least one of them sees the other's store.
 */
export function announce(shim: Shim, memory: Memory, queue: number): void {
  const { words, workers } = memory;
  const worker = workers[queue]!;
  Atomics.add(words, worker.at('inbox'), 1);
  const sleeping = worker.at('sleeping');
  if (Atomics.load(words, sleeping) === 0) return;
  if (Atomics.exchange(words, sleeping, 0) === 1) ringDoorbell(shim, memory, queue);
}
