/**
 * A list of the coordinator's open descriptors in the shared memory. Descriptors belong to the process and outlive the
 * thread, so another thread must be able to close them. Workers make too many calls for this and use the plain shim.
 *
 * A thread cannot end between the return of a call and the write to the list.
 */
import { Errno } from '../errors.ts';
import type { Memory } from '../memory/shared.ts';
import { Command } from './bpf-attributes.ts';
import type { Shim } from './shim.ts';

/** bpf(2) commands that return a descriptor. */
const OPENING_COMMANDS = new Set<number>([Command.MAP_CREATE, Command.PROG_LOAD, Command.LINK_CREATE]);

/**
 * A shim that keeps the list of what it opens and closes. AF_XDP sockets are not in it: they are in the path slots. If
 * the list is full, the new descriptor is closed and the call returns EMFILE, because nothing could close it later.
 */
export function recordingShim(shim: Shim, memory: Memory): Shim {
  const { words, layout } = memory;
  const from = layout.descriptors >> 2;
  /** Returns whether `before` was in the list. */
  const replace = (before: number, after: number): boolean => {
    const at = words.indexOf(before, from);
    if (at < from || at >= from + layout.descriptorEntries) return false;
    words[at] = after;
    return true;
  };
  const record = (fd: number): number => {
    if (fd <= 0 || replace(0, fd)) return fd;
    shim.close(fd);
    return Errno.EMFILE;
  };
  return {
    ...shim,
    open: (path, flags) => record(shim.open(path, flags)),
    socket: (domain, type, protocol) => record(shim.socket(domain, type, protocol)),
    bpf: (command, attributes, size) => {
      const result = shim.bpf(command, attributes, size);
      return OPENING_COMMANDS.has(command) ? record(result) : result;
    },
    close: (fd) => {
      const result = shim.close(fd);
      if (fd > 0) replace(fd, 0);
      return result;
    },
  };
}

/** The descriptors in the list. */
export function recordedDescriptors({ words, layout }: Memory): number[] {
  const from = layout.descriptors >> 2;
  return [...words.subarray(from, from + layout.descriptorEntries)].filter((fd) => fd > 0);
}
