/** The table of the coordinator's descriptors: whoever goes on from it finds every one that is open. */
import { expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { recordedDescriptors, recordingShim } from '../../../src/kernel/descriptors.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { smallMemory } from '../../support/frames.ts';

/** A kernel that hands out descriptors from 3 up, and says which it has open. */
function kernel() {
  const open = new Set<number>();
  const next = (): number => {
    let fd = 3;
    while (open.has(fd)) fd++;
    open.add(fd);
    return fd;
  };
  const shim = { open: next, socket: next, bpf: next, close: (fd: number) => (open.delete(fd) ? 0 : -9) };
  return { open, shim: shim as unknown as Shim };
}

it('the table of descriptors has each open descriptor until it is closed', () => {
  const memory = smallMemory();
  const { open, shim } = kernel();
  const recorder = recordingShim(shim, memory);
  recorder.open('/dev/null', 0);
  const socket = recorder.socket(16, 3, 0);
  recorder.bpf(5, new Uint8Array(), 0);
  expect(recordedDescriptors(memory).sort()).toEqual([...open].sort());
  recorder.close(socket);
  expect(recordedDescriptors(memory)).toEqual([3, 5]);
});

it('a full table of descriptors refuses one more, and accepts one after another is closed', () => {
  const memory = smallMemory();
  const { open, shim } = kernel();
  const recorder = recordingShim(shim, memory);
  const room = memory.layout.descriptorEntries;
  for (let i = 0; i < room; i++) expect(recorder.open('/dev/null', 0)).toBe(3 + i);
  expect(recorder.socket(16, 3, 0)).toBe(Errno.EMFILE);
  expect(open.size).toBe(room);
  recorder.close(7);
  expect(recorder.open('/dev/null', 0)).toBe(7);
  expect(recordedDescriptors(memory).length).toBe(room);
});
