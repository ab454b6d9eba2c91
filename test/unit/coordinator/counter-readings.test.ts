/** The last reading of a VF is reported before it leaves, if the application has ever asked. */
import { expect, it } from 'vitest';
import { readCounters, reportLastReading } from '../../../src/coordinator/counter-readings.ts';
import type { PortState } from '../../../src/coordinator/port-state.ts';
import type { Slot } from '../../../src/coordinator/slot.ts';
import type { DeviceCounters } from '../../../src/kernel/device-counters.ts';
import { Path } from '../../../src/memory/layout.ts';
import type { ReportedEvent } from '../../../src/port-events.ts';

function port(devices: Partial<Record<number, DeviceCounters>>) {
  const events: ReportedEvent[] = [];
  const network = { counters: (path: number) => devices[path] };
  const state = { port: 2, counting: false, network, report: (event: ReportedEvent) => events.push(event) };
  return { events, state: state as unknown as PortState };
}

const NETVSC: DeviceCounters = { key: 1, link: { rx_packets: 3 }, driver: {} };
const VF: DeviceCounters = { key: 9, link: { rx_packets: 5 }, driver: { rx_steer: 1 } };
const slot = (path: number, key: number): Slot => ({ path, key }) as Slot;

it('a reading has both devices, and a path without one has none', () => {
  expect(readCounters(port({ [Path.SYNTHETIC]: NETVSC, [Path.VF]: VF }).state)).toEqual({
    synthetic: NETVSC,
    vf: VF,
  });
  expect(readCounters(port({ [Path.SYNTHETIC]: NETVSC }).state)).toEqual({
    synthetic: NETVSC,
    vf: undefined,
  });
});

it('a VF that is closed is read once more, but not before the application has asked for a reading', () => {
  const { events, state } = port({ [Path.SYNTHETIC]: NETVSC, [Path.VF]: VF });
  reportLastReading(state, slot(Path.VF, 9));
  expect(events).toEqual([]);
  readCounters(state);
  reportLastReading(state, slot(Path.VF, 9));
  expect(events).toEqual([
    { kind: 'counted', event: { port: 2, readings: { synthetic: undefined, vf: VF } } },
  ]);
});

it('nothing is reported of a VF that has left, or whose successor is there already, or of the NetVSC', () => {
  const gone = port({ [Path.SYNTHETIC]: NETVSC });
  const replaced = port({ [Path.SYNTHETIC]: NETVSC, [Path.VF]: { ...VF, key: 10 } });
  for (const { events, state } of [gone, replaced]) {
    readCounters(state);
    reportLastReading(state, slot(Path.VF, 9));
    reportLastReading(state, slot(Path.SYNTHETIC, 1));
    expect(events).toEqual([]);
  }
});
