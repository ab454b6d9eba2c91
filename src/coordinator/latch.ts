/**
 * A word that one thread sets, once, and others wait for. NB: Node and koffi abort the process when a thread is ended
 * while it loads modules, binds functions or waits for a descriptor, and Node leaves a file open that the thread was just
 * opening; by a latch it says that it may be ended.
 */
export type Latch = Int32Array;

export function newLatch(): Latch {
  return new Int32Array(new SharedArrayBuffer(4));
}

/** Any thread, also again. */
export function lift(latch: Latch): void {
  Atomics.store(latch, 0, 1);
  Atomics.notify(latch, 0);
}

/** Resolves when it is lifted, or after that time. */
export async function lifted(latch: Latch, millis: number): Promise<void> {
  const waiting = Atomics.waitAsync(latch, 0, 0, millis);
  if (waiting.async) await waiting.value;
}

/** Blocks the thread until it is lifted, or for that time. */
export function awaitLift(latch: Latch, millis: number): void {
  Atomics.wait(latch, 0, 0, millis);
}
