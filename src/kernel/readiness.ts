/**
 * Waiting for the kernel: for a descriptor to become readable, on this thread's event loop, or for a refusal to pass.
 *
 * A descriptor's callback runs through uv_poll, level-triggered. The native callback only queues an immediate, which
 * runs in the same iteration of the loop, some 5 µs later. NB: it must do nothing else. libuv calls it without a
 * callback scope, so
 * - an exception that leaves it is rethrown in C++, where nothing catches it, or stays pending and makes every later
 *   native call fail;
 * - a promise that it resolves continues only when something else enters JavaScript. Up to Node 24 the loop's next
 *   phase did so in every iteration (nodejs/node#34366); Node 26 does not if there is no immediate.
 */
import koffi from 'koffi';
import { Errno } from '../errors.ts';

export interface Readiness {
  close(): void;
}

/** This thread's open ones. */
const open = new Set<Readiness>();

/**
 * Closes all of this thread. NB: koffi aborts the process if a descriptor becomes readable when its thread can no
 * longer run JavaScript. A thread that ends by itself or by an exception calls this on exit. A thread that will be
 * terminated (process.exit terminates all) must be asked to call it before.
 */
export function closeReadiness(): void {
  for (const readiness of open) readiness.close();
}

/** Pauses after a callback that threw, in ms: doubled each time, up to one second. */
const PAUSE_MILLIS = 10;
const MAX_PAUSE_MILLIS = 1_000;

/**
 * Calls `callback` when the descriptor is readable. The callback must read until nothing is left, or it is called
 * again at once. If it throws, `failed` gets the error, and it is called again after a pause, even if nothing is left to
 * read: it may not have processed all it had read.
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
      if (!closed) runAfterPause();
      failed(error);
    }
  };
  /** Stops polling meanwhile: the descriptor may still be readable, and the callback would throw again at once. */
  const runAfterPause = (): void => {
    handle.stop();
    retry = setTimeout(() => {
      handle.start({ readable: true }, readable);
      run();
    }, pause);
  };
  const handle = koffi.node.poll(fd, { readable: true }, readable);
  const close = (): void => {
    closed = true; // NB: koffi passes a null pointer to libuv if `stop` is called after `close`
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

const MAX_RETRY_MILLIS = 250;

/**
 * Repeats a request that the kernel refuses for a moment, once a millisecond and for 250 ms at most; the thread sleeps in
 * between. The kernel keeps the queues of a closed AF_XDP socket until a work item has run (xp_put_pool,
 * net/xdp/xsk_buff_pool.c).
 *
 * @returns what `request` returned last: one of `transient` only if the time is up
 */
export function retryBriefly(
  request: () => number,
  transient: readonly number[] = [Errno.EINVAL, Errno.EBUSY],
): number {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let millis = 0; ; millis++) {
    const result = request();
    if (!transient.includes(result) || millis === MAX_RETRY_MILLIS) return result;
    Atomics.wait(never, 0, 0, 1);
  }
}
