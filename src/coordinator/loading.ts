/**
 * The threads of a group that are loading. A process that exits terminates its threads, and Node and koffi abort it if one
 * of them is loading modules or binding functions then (completion.ts): so the exit waits for these threads.
 *
 * Whoever starts a thread begins, and gives it the completion. The thread ends it once it has loaded; whoever started it,
 * once it has exited, if it had not come so far. Only the first counts.
 */
import type { Worker } from 'node:worker_threads';
import type { Memory } from '../memory/shared.ts';
import { type Completion, complete, newCompletion } from './completion.ts';

/** How long an exiting thread waits for those that load: one that has not loaded by then stands still. */
export const LOADING_MILLIS = 2_000;

/** Before a thread is started. Any thread. */
export function beginLoading({ words, control }: Memory): Completion {
  Atomics.add(words, control.at('loading'), 1);
  return newCompletion();
}

/**
 * Starts a thread that ends its loading, or exits, which ends it too.
 *
 * @throws what `start` throws: then none is loading
 */
export function startLoading(memory: Memory, start: (loaded: Completion) => Worker): Worker {
  const loaded = beginLoading(memory);
  try {
    return start(loaded).once('exit', () => endLoading(memory, loaded));
  } catch (error) {
    endLoading(memory, loaded);
    throw error;
  }
}

/** A thread has loaded, or has exited. Any thread; may be called again. */
export function endLoading({ words, control }: Memory, loaded: Completion): void {
  if (!complete(loaded)) return;
  const at = control.at('loading');
  if (Atomics.sub(words, at, 1) === 1) Atomics.notify(words, at);
}

/** Blocks this thread until none loads, or for so many ms. */
export function waitForLoading({ words, control }: Memory, millis: number): void {
  const at = control.at('loading');
  const until = performance.now() + millis;
  for (;;) {
    const loading = Atomics.load(words, at);
    const left = until - performance.now();
    if (loading === 0 || left <= 0) return;
    Atomics.wait(words, at, loading, left);
  }
}
