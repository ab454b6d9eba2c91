import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Clock, Flow } from '../../../src/handler.ts';
import { FlowKey, FlowTable } from '../../../src/state.ts';
import { ethernet, icmpEcho, ipv4, ipv6, loaded, smallMemory, udp } from '../../support/frames.ts';

const memory = smallMemory();
const key = (n: number): FlowKey => new FlowKey().ipv4(n, 7, 17, n & 0xffff, 53);

/** Milliseconds. */
let now = 0;
const clock = new Clock(() => now * 1e6);
function at(millis: number): void {
  now = millis;
  clock.update();
}

interface Living {
  readonly entry: number;
  deadline: number;
}

type Step =
  | { readonly step: 'add' | 'find' | 'remove' | 'keep'; readonly flow: number; readonly life: number }
  | { readonly step: 'sweep'; readonly count: number }
  | { readonly step: 'wait'; readonly millis: number };

const flow = fc.nat(80);
const life = fc.integer({ min: 1, max: 100 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ step: fc.constant('add' as const), flow, life }) },
  { weight: 4, arbitrary: fc.record({ step: fc.constantFrom('find', 'remove', 'keep'), flow, life }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('sweep' as const), count: fc.nat(80) }) },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('wait' as const), millis: fc.nat(60) }) },
) as fc.Arbitrary<Step>;

describe('FlowTable', () => {
  it.each(['refuse', 'evict'] as const)('agrees with a map of flows, when full it does "%s"', (whenFull) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), fc.boolean(), (steps, another) => {
        const removed: number[] = [];
        const buffer = new SharedArrayBuffer(FlowTable.bytes(64));
        const options = {
          clock,
          entries: 64,
          memory: { buffer },
          mayEvict: whenFull === 'evict' ? () => true : undefined,
          removed: (entry: number) => removed.push(entry),
        };
        let table = new FlowTable(options);
        /** By flow, also those whose time is over and that have not been freed. */
        const model = new Map<number, Living>();
        at(0);
        const forget = (entries: readonly number[]): void => {
          for (const [one, { entry }] of model) if (entries.includes(entry)) model.delete(one);
        };
        for (const one of steps) {
          removed.splice(0);
          // A worker that takes over sees what the dead one has left.
          if (another) table = new FlowTable(options);
          if (one.step === 'wait') at(now + one.millis);
          else if (one.step === 'sweep') {
            const freed = table.sweep(one.count);
            expect(removed).toHaveLength(freed);
            for (const [, { entry, deadline }] of model) {
              if (removed.includes(entry)) expect(deadline).toBeLessThanOrEqual(now);
              else if (one.count >= 64) expect(deadline).toBeGreaterThan(now);
            }
            forget(removed);
          } else {
            const known = model.get(one.flow);
            const alive = known !== undefined && known.deadline > now;
            if (one.step === 'add') {
              const entry = table.add(key(one.flow), one.life);
              const evicted = removed.map((gone) => [...model].find(([, { entry: at }]) => at === gone)![1]);
              forget(removed);
              if (alive) {
                expect([entry, table.isNew, removed]).toEqual([known.entry, false, []]);
                known.deadline = now + one.life;
              } else if (entry >= 0) {
                expect(table.isNew).toBe(true);
                expect([...model.values()].map(({ entry: at }) => at)).not.toContain(entry);
                for (const { deadline } of evicted)
                  if (whenFull === 'refuse') expect(deadline).toBeLessThanOrEqual(now);
                model.set(one.flow, { entry, deadline: now + one.life });
              } else {
                expect(whenFull).toBe('refuse');
                expect(model.size).toBeGreaterThanOrEqual(8);
              }
            } else {
              const entry = table.find(key(one.flow));
              expect(entry).toBe(alive ? known.entry : -1);
              if (entry >= 0 && one.step === 'remove') {
                table.remove(entry);
                expect(removed).toEqual([entry]);
                model.delete(one.flow);
              } else if (entry >= 0 && one.step === 'keep') {
                table.keep(entry, one.life);
                known!.deadline = now + one.life;
              }
            }
          }
          expect(table.size).toBe(model.size);
        }
      }),
    );
  });

  it('takes as many flows as it has entries, if their hashes are spread', () => {
    const table = new FlowTable({ clock, entries: 4096 });
    for (let n = 0; n < 2048; n++) table.add(key(n), 1);
    expect(table.refused).toBeLessThan(80); // 17 are expected
    expect(table.size).toBe(2048 - table.refused);
  });

  it('evicts the flow that would expire first', () => {
    const table = new FlowTable({ clock, entries: 8, mayEvict: () => true });
    for (let n = 0; n < 8; n++) table.add(key(n), 100 + ((n + 3) % 8));
    table.add(key(8), 200);
    expect(table.find(key(5))).toBe(-1);
    expect([table.size, table.evicted, table.refused]).toEqual([8, 1, 0]);
  });

  it('evicts no flow that may not go, and of the others the one that would expire first', () => {
    at(0);
    const fixed = new Set<number>();
    const table = new FlowTable({ clock, entries: 8, mayEvict: (entry) => !fixed.has(entry) });
    for (let n = 0; n < 8; n++) fixed.add(table.add(key(n), 100 + n));
    fixed.delete(table.find(key(6)));
    fixed.delete(table.find(key(4)));
    expect(table.add(key(8), 300)).toBeGreaterThanOrEqual(0);
    expect([0, 1, 2, 3, 4, 5, 6, 7].filter((n) => table.find(key(n)) < 0)).toEqual([4]);
    for (let n = 0; n < 9; n++) if (table.find(key(n)) >= 0) fixed.add(table.find(key(n)));
    expect([table.add(key(9), 300), table.evicted, table.refused]).toEqual([-1, 1, 1]);
  });

  it('shows another object over the same memory the same flows', () => {
    at(0);
    const shared = { buffer: new SharedArrayBuffer(FlowTable.bytes(32) + 64), at: 64 };
    const [one, other] = [
      new FlowTable({ clock, entries: 32, memory: shared }),
      new FlowTable({ clock, entries: 32, memory: shared }),
    ];
    const entry = one.add(key(1), 10);
    at(5);
    expect(other.find(key(1))).toBe(entry);
    other.keep(entry, 20);
    at(15);
    expect(one.find(key(1))).toBe(entry);
    expect(new FlowTable({ clock, entries: 32, memory: shared }).size).toBe(1);
  });

  it.each([
    [{ entries: 12 }, 'multiple of 8'],
    [{ entries: 0 }, 'from 8 to'],
    [{ entries: 8, memory: { buffer: new ArrayBuffer(100) } }, 'do not fit'],
    [{ entries: 8, memory: { buffer: new ArrayBuffer(4096), at: 4 } }, 'do not fit'],
  ])('refuses %o', (options, message) => {
    expect(() => new FlowTable({ clock, ...options })).toThrow(message);
  });
});

describe('FlowKey', () => {
  const reader = new Flow();
  const read = (frame: number[]): FlowKey => {
    const packet = loaded([frame], memory).packet(0);
    expect(reader.read(packet)).toBe(true);
    return new FlowKey().read(packet, reader);
  };
  const text = ({ words, length }: FlowKey): string => words.subarray(0, length).join();
  const bytes = (count: number) => fc.array(fc.nat(255), { minLength: count, maxLength: count });
  const end = fc.record({ v4: bytes(4), v6: bytes(16), port: fc.nat(0xffff) });
  type End = { v4: number[]; v6: number[]; port: number };
  const packet4 = (a: End, b: End) =>
    ethernet(ipv4(udp([1], { from: a.port, to: b.port }), { src: a.v4, dst: b.v4, protocol: 17 }));
  const packet6 = (a: End, b: End) =>
    ethernet(ipv6(udp([1], { from: a.port, to: b.port }), { src: a.v6, dst: b.v6 }), { type: 0x86dd });

  it('is the same for two packets exactly if their five fields are', () => {
    const few = fc.record({
      v4: fc.constantFrom<number[]>([10, 0, 0, 1], [10, 0, 0, 2]),
      v6: fc.constantFrom<number[]>([...Array(15).fill(0), 1], [1, ...Array(15).fill(0)]),
      port: fc.constantFrom(1, 2),
    });
    fc.assert(
      fc.property(few, few, few, few, (a, b, c, d) => {
        const four = (x: End, y: End) => JSON.stringify([x.v4, y.v4, x.port, y.port]);
        const six = (x: End, y: End) => JSON.stringify([x.v6, y.v6, x.port, y.port]);
        expect(text(read(packet4(a, b))) === text(read(packet4(c, d)))).toBe(four(a, b) === four(c, d));
        expect(text(read(packet6(a, b))) === text(read(packet6(c, d)))).toBe(six(a, b) === six(c, d));
      }),
    );
  });

  it('turned round is the key of the packet in the other direction', () => {
    fc.assert(
      fc.property(end, end, (a, b) => {
        expect(text(read(packet4(a, b)).reverse())).toBe(text(read(packet4(b, a))));
        expect(text(read(packet6(a, b)).reverse())).toBe(text(read(packet6(b, a))));
      }),
    );
  });

  it('distinguishes protocols, and a packet without ports from one with ports 0', () => {
    const ends = { src: [10, 0, 0, 1], dst: [10, 0, 0, 2] };
    const keys = [
      read(ethernet(ipv4(udp([], { from: 0, to: 0 }), { ...ends, protocol: 17 }))),
      read(ethernet(ipv4(udp([], { from: 0, to: 0 }), { ...ends, protocol: 17, fragment: 0x0005 }))),
      read(ethernet(ipv4(Array(20).fill(0), { ...ends, protocol: 6 }))),
      read(ethernet(ipv4(icmpEcho([]), { ...ends, protocol: 1 }))),
    ];
    expect(new Set(keys.map(text)).size).toBe(4);
    const made = new FlowKey().ipv4(0x0a000001, 0x0a000002, 17, 0, 0);
    expect(text(made)).toBe(text(keys[0]!));
  });
});
