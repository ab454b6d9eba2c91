/** Settings that are changed for a while: put back only where they are still ours, and also by the next start. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DeviceSettings, restoreSaved, type Setting } from '../../../src/kernel/device-settings.ts';
import { SettingsStore } from '../../../src/kernel/settings-store.ts';
import { link } from '../../support/machine.ts';

const VF = link({ ifindex: 7, permanentAddress: '00:0d:3a:44:55:00' });

/** A setting whose value is a number, and a device that may refuse, go, or make something else of it. */
class Knob implements Setting<number> {
  readonly name: string;
  value: number | undefined;
  refuses = 0;
  /** How often it refuses with EBUSY first. */
  busy = 0;
  takes = (value: number): number => value;
  readonly writes: number[] = [];

  constructor(value: number, name = 'knob') {
    this.value = value;
    this.name = name;
  }

  read = (): number | undefined => this.value;
  parse = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);
  write = (value: number): number => {
    if (this.value === undefined) return -19;
    if (this.busy > 0) {
      this.busy--;
      return -16;
    }
    if (this.refuses < 0) return this.refuses;
    this.writes.push(value);
    this.value = this.takes(value);
    return 0;
  };
}

function made(): { store: SettingsStore; folder: string; settings: DeviceSettings; complaints: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'tp-settings-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const store = new SettingsStore('1', folder);
  const complaints: string[] = [];
  return {
    store,
    folder,
    complaints,
    settings: new DeviceSettings(store, VF, (detail) => complaints.push(detail)),
  };
}

describe('settings of a device', () => {
  it('are put back last first, once, and nothing stays saved', () => {
    const { store, folder, settings } = made();
    const order: string[] = [];
    const knobs = ['first', 'second'].map((name, i) => new Knob(i, name));
    for (const knob of knobs) {
      const { write } = knob;
      knob.write = (value) => {
        order.push(`${knob.name} ${value}`);
        return write(value);
      };
      expect(settings.set(knob, 10)).toBe(0);
    }
    expect(store.load(VF)).toEqual({
      first: { original: 0, applied: 10 },
      second: { original: 1, applied: 10 },
    });
    settings.restore();
    settings.restore();
    expect(order).toEqual(['first 10', 'second 10', 'second 1', 'first 0']);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('may be set again and undone: the first value found is the original, unless another program set one since', () => {
    const { store, settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    settings.set(knob, 3);
    expect(store.load(VF)).toEqual({ knob: { original: 1, applied: 3 } });
    knob.refuses = -22;
    expect(settings.set(knob, 4)).toBe(-22);
    expect(store.load(VF)).toEqual({ knob: { original: 1, applied: 3 } });
    knob.refuses = 0;
    expect(settings.undo('knob')).toBe(0);
    expect([knob.value, store.load(VF), settings.undo('knob')]).toEqual([1, {}, 0]);
    settings.set(knob, 5);
    knob.value = 9;
    settings.set(knob, 6);
    settings.restore();
    expect(knob.value).toBe(9);
    settings.set(knob, 7);
    knob.value = 8;
    expect([settings.undo('knob'), knob.value]).toEqual([0, 8]);
  });

  it('are saved before they are changed', () => {
    const { store, settings } = made();
    const knob = new Knob(1);
    const seen: unknown[] = [];
    knob.takes = (value) => {
      seen.push(store.load(VF));
      return value;
    };
    settings.set(knob, 2);
    expect(seen).toEqual([{ knob: { original: 1, applied: 2 } }]);
  });

  it('that are right already are not touched, saved or put back, but are watched', () => {
    const { folder, settings } = made();
    const knob = new Knob(5);
    expect(settings.set(knob, 5)).toBe(0);
    expect([knob.writes, readdirSync(folder)]).toEqual([[], []]);
    knob.value = 6;
    expect(settings.reapply()).toEqual([
      { name: 'knob', from: 6, to: 5, result: 0, reapplied: true, wasReset: false },
    ]);
    expect(readdirSync(folder)).toHaveLength(1);
    settings.restore();
    expect([knob.value, readdirSync(folder)]).toEqual([6, []]);
  });

  it('that the device refuses are left as they were, and are not saved', () => {
    const { folder, settings } = made();
    const knob = new Knob(1);
    knob.refuses = -95;
    expect(settings.set(knob, 2)).toBe(-95);
    expect([knob.value, readdirSync(folder)]).toEqual([1, []]);
    settings.restore();
    expect(knob.writes).toEqual([]);
  });

  it('that the device rounds to another value are restored at the end', () => {
    const { settings } = made();
    const knob = new Knob(1);
    knob.takes = (value) => Math.min(value, 4);
    settings.set(knob, 9);
    expect([knob.value, settings.reapply()]).toEqual([4, []]);
    settings.restore();
    expect(knob.value).toBe(1);
  });

  it('that others have set since the last look are theirs at the end', () => {
    const { settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    knob.value = 3; // and nobody looks
    settings.restore();
    expect(knob.value).toBe(3);
  });

  it('that cannot be set back are told with the errno, and are theirs at the end', () => {
    const { settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    knob.value = 3;
    knob.refuses = -22;
    expect(settings.reapply()).toEqual([
      { name: 'knob', from: 3, to: 2, result: -22, reapplied: false, wasReset: false },
    ]);
    knob.refuses = 0;
    settings.restore();
    expect(knob.value).toBe(3);
  });

  it.each([1, 2])(
    'that others set %i times while they are set back are set back, and are theirs at the end',
    (times) => {
      const { store, settings } = made();
      const knob = new Knob(1);
      settings.set(knob, 2);
      knob.value = 3;
      let others = 0;
      knob.takes = (value) => (others++ < times ? 3 + others : value);
      const last = 3 + times;
      expect(settings.reapply()).toEqual([
        { name: 'knob', from: last, to: 2, result: 0, reapplied: true, wasReset: false },
      ]);
      expect(store.load(VF)).toEqual({ knob: { original: last, applied: 2 } });
      settings.restore();
      expect(knob.value).toBe(last);
    },
  );

  it('that others set as often as they are set back are taken, not refused', () => {
    const { settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    knob.value = 3;
    knob.takes = () => 3;
    expect(settings.reapply()).toEqual([
      { name: 'knob', from: 3, to: 2, result: 0, reapplied: false, wasReset: false },
    ]);
  });

  it('that others set at the same moment as the port are the port’s while it is open, and then theirs', () => {
    const { store, settings } = made();
    const knob = new Knob(1);
    let others = 0;
    knob.takes = (value) => (others++ === 0 ? 5 : value);
    expect(settings.set(knob, 2)).toBe(0);
    expect([knob.value, store.load(VF), settings.reapply()]).toEqual([
      2,
      { knob: { original: 5, applied: 2 } },
      [],
    ]);
    settings.restore();
    expect(knob.value).toBe(5);
  });

  it('are put back when the kernel keeps them busy for a moment', () => {
    const { settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    knob.busy = 5;
    settings.restore();
    expect(knob.value).toBe(1);
  });

  it('are changed even if they cannot be saved, and this is reported', () => {
    const { folder, settings, complaints } = made();
    rmSync(folder, { recursive: true });
    const knob = new Knob(1);
    expect(settings.set(knob, 2)).toBe(0);
    expect(complaints.join()).toMatch(/ENOENT/);
    settings.restore();
    expect(knob.value).toBe(1);
  });

  it('of a device that went elsewhere stay saved if it is known by something that it took with it', () => {
    const { folder, settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    knob.value = undefined;
    settings.restore();
    expect(readdirSync(folder)).toHaveLength(1);
  });
});

describe('a device that makes a setting of its own when it is set up', () => {
  const DEFAULT = 100;
  const isDefault = (value: number): boolean => value === DEFAULT;

  it('is set again without a report of a foreign change, and the saved original stays', () => {
    const { settings } = made();
    const knob = Object.assign(new Knob(1), { isDefault });
    settings.set(knob, 2);
    knob.value = DEFAULT;
    expect(settings.reapply()).toEqual([
      { name: 'knob', from: DEFAULT, to: 2, result: 0, reapplied: true, wasReset: true },
    ]);
    knob.value = 3;
    expect(settings.reapply()).toMatchObject([{ from: 3, wasReset: false }]);
    settings.restore();
    expect(knob.value).toBe(3);
  });

  it('has the original back at the end, although it reads otherwise', () => {
    const { settings } = made();
    const knob = Object.assign(new Knob(1), { isDefault });
    settings.set(knob, 2);
    knob.value = DEFAULT;
    settings.restore();
    expect(knob.value).toBe(1);
  });

  it('has it back after a kill, too', () => {
    const { store, settings } = made();
    const knob = Object.assign(new Knob(1), { isDefault });
    settings.set(knob, 2);
    knob.value = DEFAULT;
    expect(restoreSaved(store, VF, () => knob as Setting<unknown>)).toEqual(['knob']);
    expect(knob.value).toBe(1);
  });
});

describe('what a killed process has left', () => {
  it('is restored by the next start if it still has the value of the killed process', () => {
    const { store, folder, settings } = made();
    const [left, theirs, gone, damaged] = [10, 20, 30, 40].map((value, i) => new Knob(value, `knob${i}`));
    const knobs = [left!, theirs!, gone!, damaged!];
    for (const knob of knobs) settings.set(knob, 1);
    theirs!.value = 7;
    gone!.value = undefined;
    damaged!.parse = () => undefined;
    expect(restoreSaved(store, VF, (name) => knobs.find((knob) => knob.name === name))).toEqual(['knob0']);
    expect(knobs.map(({ value }) => value)).toEqual([10, 7, undefined, 1]);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is not the next device’s, nor that of one whose settings have no such name', () => {
    const { store, settings } = made();
    const knob = new Knob(1);
    settings.set(knob, 2);
    expect(restoreSaved(store, { ...VF, ifindex: 8 }, () => knob)).toEqual([]);
    settings.set(knob, 3);
    expect(restoreSaved(store, VF, () => undefined)).toEqual([]);
    expect([knob.value, store.load(VF)]).toEqual([3, {}]);
  });
});
