/** Rules that differ only in their prefixes become one table, whose longest prefix names the rule that comes first. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkRules } from '../../../src/rules/check.ts';
import { MAX_STEPS, MAX_TRIES, stepsOf } from '../../../src/rules/plan.ts';

const steps = (rules: readonly unknown[]) => stepsOf('rules', checkRules('rules', rules, 'handler'));

/** How many prefixes each step's tables have. */
const sizes = (rules: readonly unknown[]) =>
  steps(rules).map(({ table, others }) => [table?.entries.length ?? 0, others?.entries.length ?? 0]);

describe('the steps of a set of rules', () => {
  it.each([
    [
      ['udp drop', 'tcp drop'],
      [
        [0, 0],
        [0, 0],
      ],
    ],
    [['src 10.0.0.1 drop', 'src 10.0.0.2 to kernel', 'src 10.0.0.3 to handler'], [[3, 0]]],
    [['dst 10.0.0.1 drop', 'dst 2001:db8::1 drop'], [[2, 0]]],
    [
      ['udp src 10.0.0.1 drop', 'tcp src 10.0.0.2 drop'],
      [
        [0, 0],
        [0, 0],
      ],
    ],
    [
      ['src 10.0.0.1 drop', 'src 10.0.0.2 count', 'src 10.0.0.3 drop'],
      [
        [0, 0],
        [0, 0],
        [0, 0],
      ],
    ],
    [
      ['src 10.0.0.1 drop', 'udp drop', 'src 10.0.0.3 drop'],
      [
        [0, 0],
        [0, 0],
        [0, 0],
      ],
    ],
    [['src in {10.0.0.1, 10.0.0.2} dst in {10.0.0.3, 10.0.0.4} drop'], [[2, 2]]],
    [['src 10.0.0.1 dst 10.0.0.3 drop', 'src 10.0.0.1 dst 10.0.0.4 drop'], [[2, 0]]],
    [['src in {10.0.0.1, 10.0.0.1} count'], [[1, 0]]],
    [
      ['udp drop', 'drop', 'tcp drop'],
      [
        [0, 0],
        [0, 0],
      ],
    ],
    [
      ['count', 'tcp drop'],
      [
        [0, 0],
        [0, 0],
      ],
    ],
  ])('%o have tables of %o prefixes', (rules, expected) => {
    expect(sizes(rules)).toEqual(expected);
  });

  it('find the first rule for each address by its longest prefix', () => {
    const bit = fc.integer({ min: 0, max: 1 });
    // Addresses of four bits, so that prefixes contain each other.
    const prefix = fc.tuple(fc.array(bit, { maxLength: 4 }));
    fc.assert(
      fc.property(fc.array(prefix, { minLength: 2, maxLength: 20 }), (list) => {
        const rules = list.map(([bits]) => `src ${address(bits)}/${bits.length} drop`);
        const [step, ...more] = steps(rules);
        expect(more).toEqual([]);
        const entries = step!.table!.entries;
        for (let n = 0; n < 16; n++) {
          const bits = [n >> 3, (n >> 2) & 1, (n >> 1) & 1, n & 1];
          const contains = (one: readonly number[]): boolean => one.every((value, i) => value === bits[i]);
          const first = list.findIndex(([one]) => contains(one));
          const longest = entries
            .filter((entry) => contains(bitsOf(entry.address[0]!, entry.bits)))
            .sort((a, b) => b.bits - a.bits)[0];
          expect(longest?.rule.index ?? -1).toBe(first);
        }
      }),
    );
  });

  it('are refused if they are too many for a program', () => {
    const different = (count: number): string[] =>
      Array.from({ length: count }, (_, n) => `udp port ${n} drop`);
    expect(steps(different(MAX_STEPS))).toHaveLength(MAX_STEPS);
    expect(() => steps(different(MAX_STEPS + 1))).toThrow(
      'rules: they need 65 steps in the kernel, and 64 is the most',
    );
    const tables = (count: number): string[] =>
      different(count).map((rule) => `src in {10.0.0.1, 10.0.0.2} ${rule}`);
    expect(steps(tables(MAX_TRIES))).toHaveLength(MAX_TRIES);
    expect(() => steps(tables(MAX_TRIES + 1))).toThrow(
      'they need 57 tables of prefixes in the kernel, and 56 is the most',
    );
  });
});

const bitsOf = (byte: number, bits: number): number[] =>
  Array.from({ length: bits }, (_, i) => (byte >> (7 - i)) & 1);

function address(bits: readonly number[]): string {
  return `${bits.reduce((byte, bit, i) => byte | (bit << (7 - i)), 0)}.0.0.0`;
}
