import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TwinpathError } from '../../../src/errors.ts';
import { changed, Upkeep } from '../../../src/paths/upkeep.ts';

function bench() {
  const told: string[] = [];
  const clock = { now: 0 };
  const upkeep = new Upkeep(
    ({ message }) => told.push(message),
    () => clock.now,
  );
  return { told, clock, upkeep };
}

it('an altered setting is repaired at once and reported with device, fault and a stable code', () => {
  const errors: TwinpathError[] = [];
  const upkeep = new Upkeep((error) => errors.push(error));
  let repaired = 0;
  upkeep.repair('twinpath0', 'it was set down', () => repaired++);
  expect(repaired).toBe(1);
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatchObject({ code: 'ERR_DEVICE_CHANGED', device: 'twinpath0' });
  expect(errors[0]!.detail).toContain('it was set down; repaired');
});

it('repeated alterations of one setting are repaired after pauses, and reported ever more rarely', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 500 }), (step) => {
      const { told, clock, upkeep } = bench();
      const at: number[] = [];
      while (clock.now < 600_000) {
        upkeep.repair('twinpath0', 'it was set down', () => at.push(clock.now));
        clock.now += step;
      }
      const pauses = at.slice(1).map((time, i) => time - at[i]!);
      expect(pauses[0]).toBeGreaterThanOrEqual(500);
      expect(pauses.every((pause, i) => i === 0 || pause >= pauses[i - 1]! - step)).toBe(true);
      expect(at.length).toBeGreaterThanOrEqual(100);
      expect(at.length).toBeLessThanOrEqual(125);
      expect(told).toHaveLength(Math.floor(Math.log2(at.length)) + 1);
      expect(told.at(-1)).toContain('64 times now');
    }),
    { numRuns: 20 },
  );
});

it('each setting of each device has its own pause, which ends after a quiet time', () => {
  const { told, clock, upkeep } = bench();
  const repair = (device: string, fault: string): number => {
    const before = told.length;
    upkeep.repair(device, fault, () => {});
    return told.length - before;
  };
  expect(repair('twinpath0', 'it was set down')).toBe(1);
  expect(repair('twinpath0', 'it was set down')).toBe(0);
  expect(repair('twinpath0', 'it was put under another device')).toBe(1);
  expect(repair('twinhost0', 'it was set down')).toBe(1);
  clock.now = 60_000;
  expect(repair('twinpath0', 'it was set down')).toBe(1);
  expect(told.at(-1)).not.toContain('times');
});

it('a failed repair is not reported as a repair, and is tried again after the pause', () => {
  const { told, clock, upkeep } = bench();
  const fail = (): never => {
    throw changed('twinpath0', 'it is gone');
  };
  expect(() => upkeep.repair('twinpath0', 'it was set down', fail)).toThrow(TwinpathError);
  expect(told).toEqual([]);
  let repaired = 0;
  upkeep.repair('twinpath0', 'it was set down', () => repaired++);
  clock.now = 500;
  upkeep.repair('twinpath0', 'it was set down', () => repaired++);
  expect(repaired).toBe(1);
});

it('a fault that cannot be repaired is reported once while it lasts, and again if it changes or returns', () => {
  const { told, upkeep } = bench();
  const tell = (detail?: string): void =>
    upkeep.tell('before', detail === undefined ? undefined : changed('eth0', detail));
  for (const detail of ['one', 'one', 'two', 'two', undefined, undefined, 'two']) tell(detail);
  expect(told.map((message) => /one|two/.exec(message)![0])).toEqual(['one', 'two', 'two']);
});

it('a path that is opened again repeatedly is reported the 1st, 2nd, 4th and 8th time', () => {
  const { told, upkeep } = bench();
  const at: number[] = [];
  for (let i = 1; i <= 20; i++) {
    const before = told.length;
    upkeep.failed(changed('twinpath0', 'it was deleted'));
    if (told.length > before) at.push(i);
  }
  expect(at).toEqual([1, 2, 4, 8, 16]);
  upkeep.failed(new Error('something else'));
  expect(told.at(-1)).toContain('something else');
});
