/**
 * A word that one thread sets, once, while others wait for it, as with the kernel's `struct completion`.
 *
 * NB: Node and koffi abort the process if a thread is terminated while it loads modules, binds functions or waits for a
 * descriptor, and Node leaks a file that the thread was opening. A completion says that the thread may be terminated.
 */
export type Completion = Int32Array;

export function newCompletion(): Completion {
  return new Int32Array(new SharedArrayBuffer(4));
}

/** Any thread; may be called again. Returns whether it was the first time. */
export function complete(completion: Completion): boolean {
  const first = Atomics.exchange(completion, 0, 1) === 0;
  if (first) Atomics.notify(completion, 0);
  return first;
}

/** Resolves when it is complete, or after that time. */
export async function completed(completion: Completion, millis: number): Promise<void> {
  const waiting = Atomics.waitAsync(completion, 0, 0, millis);
  if (waiting.async) await waiting.value;
}

/** Blocks the thread until it is complete, or for that time. */
export function waitForCompletion(completion: Completion, millis: number): void {
  Atomics.wait(completion, 0, 0, millis);
}
