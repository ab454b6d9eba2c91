import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { flameGraph, KINDS, layOut, shares, treeOf } from '../../../perf/profile/flame-graph.ts';
import type { Kind, Stack } from '../../../perf/profile/perf-script.ts';

const kind = fc.constantFrom(...(Object.keys(KINDS) as Kind[]));
const frame = fc.record({ name: fc.constantFrom('a', 'b', 'c<d>&', 'a longer name than fits'), kind });
const stack: fc.Arbitrary<Stack> = fc.record({
  thread: fc.constantFrom('main', 'worker'),
  frames: fc.array(frame, { maxLength: 5 }),
  count: fc.integer({ min: 1, max: 100 }),
});
const stacks = fc.array(stack, { maxLength: 20 });
const samples = (of: readonly Stack[]): number => of.reduce((sum, { count }) => sum + count, 0);

describe('the layout', () => {
  it('gives each frame its share, inside its caller, beside its neighbours', () => {
    fc.assert(
      fc.property(stacks, (of) => {
        const root = treeOf(of);
        const boxes = layOut(root, 1000, 0);
        expect(root.total).toBe(samples(of));
        for (const { node, x, width, level } of boxes) {
          expect(width).toBeCloseTo((1000 * node.total) / root.total, 6);
          const inside = [...node.children.values()].reduce((sum, { total }) => sum + total, 0);
          expect(inside).toBeLessThanOrEqual(node.total);
          const below = boxes.filter((box) => box.level === level - 1);
          const carried = below.some((box) => box.x <= x + 1e-6 && x + width <= box.x + box.width + 1e-6);
          expect(level === 0 || carried).toBe(true);
          const beside = boxes.filter((box) => box.level === level && box.node !== node);
          for (const box of beside)
            expect(box.x >= x + width - 1e-6 || box.x + box.width <= x + 1e-6).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('leaves out what is too narrow, and all above it', () => {
    const of: Stack[] = [
      { thread: 'main', frames: [{ name: 'wide', kind: 'kernel' }], count: 999 },
      {
        thread: 'main',
        frames: [
          { name: 'thin', kind: 'kernel' },
          { name: 'above', kind: 'kernel' },
        ],
        count: 1,
      },
    ];
    expect(layOut(treeOf(of), 1000, 2).map(({ node }) => node.name)).toEqual(['main', 'wide']);
    expect(layOut(treeOf([]), 1000, 2)).toEqual([]);
  });
});

it('shares of a flame graph belong to the innermost frames and add up to all samples', () => {
  fc.assert(
    fc.property(stacks, (of) => {
      const found = shares(of);
      expect(Object.values(found).reduce((sum, count) => sum + count, 0)).toBe(samples(of));
      for (const each of Object.keys(KINDS) as Kind[]) {
        const slow = of.filter(({ frames }) => (frames.at(-1)?.kind ?? 'native') === each);
        expect(found[each]).toBe(samples(slow));
      }
    }),
  );
});

describe('the drawing', () => {
  const svg = (of: readonly Stack[]) => flameGraph({ title: 'a < b & c', subtitle: 's', stacks: of });

  it('is one image that needs nothing from elsewhere, with every tag closed', () => {
    fc.assert(
      fc.property(stacks, (of) => {
        const text = svg(of);
        expect(text).not.toMatch(/<script|href|url\(|@import|NaN|undefined/);
        const open: string[] = [];
        for (const [, close, name, empty] of text.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
          if (close) expect(open.pop()).toBe(name);
          else if (!empty) open.push(name!);
        }
        expect(open).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it('names threads with their share, and what is in a colour', () => {
    const text = svg([
      { thread: 'main', frames: [{ name: 'poll', kind: 'javascript' }], count: 3 },
      { thread: 'worker', frames: [{ name: 'send', kind: 'kernel' }], count: 1 },
    ]);
    expect(text).toContain('a &lt; b &amp; c');
    for (const part of ['main, 75 %', 'worker, 25 %', 'kernel 25 %', 'JavaScript 75 %']) {
      expect(text).toContain(part);
    }
    expect(text).not.toContain('WebAssembly');
  });
});
