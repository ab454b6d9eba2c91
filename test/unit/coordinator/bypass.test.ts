import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bypass, type Sample } from '../../../src/coordinator/bypass.ts';

/** What is said at each of these looks: packets that each path has received since the last. */
function said(steps: readonly (readonly [vf: number, synthetic: number, vfOwns?: boolean])[]): number[] {
  const bypass = new Bypass();
  let [vf, synthetic] = [0, 0];
  return steps.map(([byVf, bySynthetic, vfOwns = true]) => {
    vf += byVf;
    synthetic += bySynthetic;
    return bypass.check({ vfOwns, vf, synthetic });
  });
}

const times = <T>(count: number, step: T): T[] => Array.from({ length: count }, () => step);

describe('a VF that owns the queues', () => {
  it('is bypassed when it receives nothing in ten looks in which the NetVSC receives a thousand packets', () => {
    expect(said(times(11, [0, 100]))).toEqual([...times(10, 0), 1000]);
    expect(said([...times(11, [0, 99] as const), [0, 10]])).toEqual([...times(11, 0), 1000]);
  });

  it('is not for a burst of packets, nor for a long silence', () => {
    expect(said([[0, 0], [0, 1e6], ...times(8, [0, 0] as const)])).toEqual(times(10, 0));
    expect(said(times(500, [0, 1]))).toEqual(times(500, 0));
  });

  it('is reported once, and again after it has received something or was away', () => {
    const bypassed = times(11, [0, 100] as const);
    const once = [...times(10, 0), 1000];
    expect(said([...bypassed, ...bypassed])).toEqual([...once, ...times(11, 0)]);
    expect(said([...bypassed, [1, 100], ...times(10, [0, 100] as const)])).toEqual([...once, ...once]);
    expect(said([...bypassed, [0, 100, false], ...bypassed])).toEqual([...once, 0, ...once]);
  });

  it('is never bypassed as long as it receives, or does not own them', () => {
    const step = fc.record({ vfOwns: fc.boolean(), vf: fc.nat(9), synthetic: fc.nat(5000) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const bypass = new Bypass();
        let [vf, synthetic] = [0, 0];
        for (const one of steps) {
          vf += one.vfOwns ? one.vf + 1 : 0;
          synthetic += one.synthetic;
          const sample: Sample = { vfOwns: one.vfOwns, vf, synthetic };
          expect(bypass.check(sample)).toBe(0);
        }
      }),
    );
  });
});
