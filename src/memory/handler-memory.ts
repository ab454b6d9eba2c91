/**
 * Memory of a handler that all its workers have, and that outlives each of them: a SharedArrayBuffer that grows when the handler
 * asks for more. Any thread.
 */

/** Only addresses are reserved until the handler asks. */
const MAX_BYTES = 2 ** 30;

/** Memory for a handler that may ask for any, on the thread that opens the ports. */
export function newHandlerMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(0, { maxByteLength: MAX_BYTES });
}

/**
 * The handler's memory, with at least so many bytes. Zeros, or what its workers have written.
 *
 * @throws RangeError for more than a gibibyte
 */
export function atLeast(memory: SharedArrayBuffer, bytes: number): SharedArrayBuffer {
  if (!Number.isInteger(bytes) || bytes < 0 || bytes > MAX_BYTES) {
    throw new RangeError(`${bytes} bytes: a handler can share up to ${MAX_BYTES}`);
  }
  try {
    if (memory.byteLength < bytes) memory.grow(bytes);
  } catch (error) {
    // Another worker may have made it larger at the same time.
    if (memory.byteLength < bytes) throw error;
  }
  return memory;
}
