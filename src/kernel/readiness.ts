/**
 * Readiness of a descriptor as a callback on this thread's event loop (uv_poll, level-triggered).
 *
 * The native callback does nothing but queue an immediate, which runs in the same turn of the loop, some 5 µs
 * later. NB: nothing else may happen in there. It is called by libuv with no callback scope around it, so
 * - an exception that leaves it is rethrown in C++ with nobody above to catch it, or stays pending and fails
 *   every native call from then on;
 * - a promise that it resolves goes on only when something else enters JavaScript. Up to Node 24 the loop's next
 *   phase did so in every turn (nodejs/node#34366), in Node 26 it does not when there is no immediate.
 */
import koffi from 'koffi';

export interface Readiness {
  close(): void;
}

/** Those of this thread that are open. */
const open = new Set<Readiness>();

/**
 * Closes all of this thread. NB: koffi aborts the process if a descriptor becomes readable when its thread can run
 * no JavaScript any more. A thread that ends by itself or by an exception comes through here; one that is terminated,
 * as process.exit does it with all threads, has to be asked to come here before.
 */
export function closeReadiness(): void {
  for (const readiness of open) readiness.close();
}

/** Pauses after a callback that threw, in ms: doubled each time, up to the second one. */
const PAUSE_MILLIS = 10;
const MAX_PAUSE_MILLIS = 1_000;

/**
 * The callback must read until nothing is left, or it comes again at once. If it throws, that is told, and it comes
 * again after a pause even if nothing is left to read: what it had read by then is still to be dealt with.
 */
export function onReadable(fd: number, callback: () => void, failed: (error: unknown) => void): Readiness {
  let closed = false;
  let queued: NodeJS.Immediate | undefined;
  let pause = 0;
  let retry: NodeJS.Timeout | undefined;
  const readable = (): void => {
    queued ??= setImmediate(run);
  };
  const run = (): void => {
    queued = undefined;
    try {
      callback();
      pause = 0;
    } catch (error) {
      pause = Math.min(2 * pause || PAUSE_MILLIS, MAX_PAUSE_MILLIS);
      if (!closed) rest();
      failed(error);
    }
  };
  /** What is still readable would have it fail again at once, and for ever. */
  const rest = (): void => {
    handle.stop();
    retry = setTimeout(() => {
      handle.start({ readable: true }, readable);
      run();
    }, pause);
  };
  const handle = koffi.node.poll(fd, { readable: true }, readable);
  const close = (): void => {
    closed = true; // NB: koffi takes a null pointer to libuv if it is asked to stop afterwards
    open.delete(readiness);
    if (open.size === 0) process.off('exit', closeReadiness);
    clearImmediate(queued);
    clearTimeout(retry);
    handle.close();
  };
  const readiness = { close };
  if (open.size === 0) process.on('exit', closeReadiness);
  open.add(readiness);
  return readiness;
}
