/**
 * Which descriptors a thread has open, written into the shared memory as it opens and closes them: descriptors belong to
 * the process and outlive the thread, and somebody else has to close them then. Of the coordinator, whose calls are few;
 * workers use the shim as it is.
 *
 * Between a call's return and the note there is no point at which a thread could end.
 */
import { Errno } from '../errors.ts';
import type { Memory } from '../memory/shared.ts';
import type { Shim } from './shim.ts';

/** bpf(2) commands that answer with a descriptor: include/uapi/linux/bpf.h. */
const OPENING_COMMANDS = new Set([0 /* MAP_CREATE */, 5 /* PROG_LOAD */, 28 /* LINK_CREATE */]);

/**
 * The shim, as one that notes what it opens and closes. AF_XDP sockets are in the path slots. A descriptor for which
 * there is no room is closed, and the call ends in EMFILE: nobody could close it later.
 */
export function noting(shim: Shim, memory: Memory): Shim {
  const { words, layout } = memory;
  const from = layout.descriptors >> 2;
  /** Whether `before` was there. */
  const replace = (before: number, after: number): boolean => {
    const at = words.indexOf(before, from);
    if (at < from || at >= from + layout.descriptorEntries) return false;
    words[at] = after;
    return true;
  };
  const note = (fd: number): number => {
    if (fd <= 0 || replace(0, fd)) return fd;
    shim.close(fd);
    return Errno.EMFILE;
  };
  return {
    ...shim,
    open: (path, flags) => note(shim.open(path, flags)),
    socket: (domain, type, protocol) => note(shim.socket(domain, type, protocol)),
    bpf: (command, attributes, size) => {
      const result = shim.bpf(command, attributes, size);
      return OPENING_COMMANDS.has(command) ? note(result) : result;
    },
    close: (fd) => {
      const result = shim.close(fd);
      if (fd > 0) replace(fd, 0);
      return result;
    },
  };
}

/** The descriptors that are noted. */
export function noted({ words, layout }: Memory): number[] {
  const from = layout.descriptors >> 2;
  return [...words.subarray(from, from + layout.descriptorEntries)].filter((fd) => fd > 0);
}
