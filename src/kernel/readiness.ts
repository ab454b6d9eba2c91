/** Readiness of a descriptor as a callback on this thread's event loop (uv_poll, level-triggered). */
import koffi from 'koffi';

export interface Readiness {
  close(): void;
}

/** The callback must read until nothing is left, or it comes again at once. */
export function onReadable(fd: number, callback: () => void): Readiness {
  const handle = koffi.node.poll(fd, { readable: true }, callback);
  return { close: () => handle.close() };
}
