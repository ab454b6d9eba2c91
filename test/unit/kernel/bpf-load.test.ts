import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { Bpf } from '../../../src/kernel/bpf.ts';
import { programAttributes } from '../../../src/kernel/bpf-attributes.ts';
import { loadShim } from '../../../src/kernel/shim.ts';

const PROG_LOAD = 5;
const FD = 77;

/** A kernel that answers to the loading of a program as it is told, and then for ever as it did last. */
function kernel(...answers: number[]): { bpf: Bpf; asked: number[] } {
  const asked: number[] = [];
  const shim = {
    ...loadShim(),
    bpf: (command: number) => {
      asked.push(command);
      return answers.length > 1 ? answers.shift()! : answers[0]!;
    },
  };
  return { bpf: new Bpf(shim), asked };
}

it('a program for packets in several buffers says so, and no other does', () => {
  const flags = (['xdp', 'xdp.frags'] as const).map((type) => {
    const { block } = programAttributes(type, 'test', new Uint8Array(16), 0);
    return [block.getUint32(0, true), block.getUint32(44, true), block.getUint32(68, true)];
  });
  // BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, BPF_XDP
  expect(flags).toEqual([
    [6, 0, 37],
    [6, 32, 37],
  ]);
});

describe('loading a program', () => {
  it.each([1, 2, 5])('is done again when the verifier was interrupted (%i times)', (times) => {
    const { bpf, asked } = kernel(...Array(times).fill(Errno.EAGAIN), FD);
    expect(bpf.load('xdp', 'test', new Uint8Array(16))).toBe(FD);
    expect(asked).toEqual(Array(times + 1).fill(PROG_LOAD));
  });

  it('ends in an error when it is interrupted for ever', () => {
    const { bpf, asked } = kernel(Errno.EAGAIN);
    expect(() => bpf.load('xdp', 'test', new Uint8Array(16))).toThrow(/PROG_LOAD.*EAGAIN.*program test/);
    expect(asked.length).toBeLessThan(100);
  });

  it.each(['ENOMEM', 'EBUSY'] as const)('is not done again on %s', (name) => {
    const { bpf, asked } = kernel(Errno[name]);
    expect(() => bpf.load('xdp', 'test', new Uint8Array(16))).toThrow(name);
    expect(asked).toEqual([PROG_LOAD]);
  });
});
