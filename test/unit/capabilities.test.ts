import { describe, expect, it } from 'vitest';
import { computingHint, lackingIn, permissionHint } from '../../src/capabilities.ts';

/** The text of /proc/thread-self/status with these bits effective. */
const status = (...bits: number[]): string => {
  const set = bits.reduce((all, bit) => all | (1n << BigInt(bit)), 0n);
  return `Name:\tnode\nCapPrm:\t000001ffffffffff\nCapEff:\t${set.toString(16).padStart(16, '0')}\nCapBnd:\t0\n`;
};

const [NET_ADMIN, NET_RAW, IPC_LOCK, SYS_ADMIN, PERFMON, BPF] = [12, 13, 14, 21, 38, 39] as const;

describe('the capabilities that a process lacks', () => {
  it.each([
    ['none of an ordinary user', [], ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_IPC_LOCK']],
    ['all of them', [NET_ADMIN, NET_RAW, BPF, IPC_LOCK], []],
    ['those of a container', [NET_ADMIN, NET_RAW], ['CAP_BPF', 'CAP_IPC_LOCK']],
    ['CAP_SYS_ADMIN in place of CAP_BPF', [NET_ADMIN, NET_RAW, SYS_ADMIN, IPC_LOCK], []],
    ['CAP_SYS_ADMIN and nothing else', [SYS_ADMIN], ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_IPC_LOCK']],
  ])('with %s', (_, bits, lacking) => {
    expect(lackingIn(status(...bits))).toEqual(lacking);
  });

  it.each([
    ['those that every port needs', [NET_ADMIN, NET_RAW, BPF, IPC_LOCK], ['CAP_PERFMON']],
    ['CAP_PERFMON', [PERFMON], []],
    ['CAP_SYS_ADMIN in place of it', [SYS_ADMIN], []],
  ])('of those for rules, with %s', (_, bits, lacking) => {
    expect(lackingIn(status(...bits), [['CAP_PERFMON', PERFMON]])).toEqual(lacking);
  });

  it('are unknown, and the error names none, where /proc has no answer', () => {
    expect(lackingIn('')).toEqual([]);
  });
});

describe('the hint of a refusal', () => {
  it('names all that are needed and each that is missing', () => {
    expect(permissionHint(['CAP_BPF', 'CAP_IPC_LOCK'])).toBe(
      'Run as root, or with CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK: this process lacks CAP_BPF and CAP_IPC_LOCK.',
    );
    expect(permissionHint(['CAP_NET_RAW'])).toMatch(/ lacks CAP_NET_RAW\.$/);
  });

  it('sends a process that has all of them elsewhere, not back to them', () => {
    expect(permissionHint([])).toMatch(/^This process has .*container/);
    expect(permissionHint([])).not.toMatch(/Run as/);
    expect(computingHint([])).toMatch(/^This process has CAP_PERFMON.*container/);
  });
});
