/**
 * Random orders to a port whose VF comes and goes under traffic: its devices have what a model says they have, whichever of them
 * is there, no counter falls, and no packet is lost.
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ConfigurationChange } from '../../dist/src/configuration.js';
import { configured, MULTICAST, NOTHING, UNICAST } from '../support/configured.ts';
import { CounterWatch } from '../support/counters.ts';
import { expectUnharmed, Scene } from '../support/harness.ts';

const CYCLES = 150;

/** None of them concerns the traffic. */
const RULES = [
  'src 198.51.100.0/24 drop',
  'src in {203.0.113.0/25, 2001:db8::/32} to kernel',
  'priority 5 tcp dst port 22 to kernel',
  'udp dst port 4789 count',
];

const change: fc.Arbitrary<ConfigurationChange> = fc.record(
  {
    mtu: fc.oneof(fc.constant(null), fc.integer({ min: 1280, max: 1700 })),
    unicast: fc.subarray(UNICAST),
    multicast: fc.subarray(MULTICAST),
    promiscuous: fc.boolean(),
    allMulticast: fc.boolean(),
    rules: fc.subarray(RULES),
  },
  { requiredKeys: [] },
);
const orders = fc.array(
  fc.oneof({ weight: 4, arbitrary: change }, { weight: 1, arbitrary: fc.constantFrom(1, 2) }),
  { maxLength: 3 },
);

it(`${CYCLES} returns of a VF with random orders between them leave its devices as a model says`, async () => {
  const scene = await Scene.open();
  const { lab, port, nic } = scene;
  const traffic = await scene.drive();
  const watch = new CounterWatch(port);
  const model = { mtu: null as number | null, mac: null, rules: [] as readonly unknown[], ...NOTHING };
  const check = async (device: string, context: string): Promise<void> => {
    const { rules, ...others } = model;
    expect(configured(lab, device), context).toEqual({ ...others, mtu: model.mtu ?? 1500, mac: nic.mac });
    expect(port.rules.list(), context).toEqual(rules);
    expect((await port.rules.counters()).rules, context).toHaveLength(rules.length);
  };
  const carryOut = async (given: readonly (ConfigurationChange | number)[], when: string): Promise<void> => {
    for (const order of given) {
      if (typeof order === 'number') await port.setQueues(order);
      else Object.assign(model, (await port.configure(order)) && order);
      watch.look(when);
    }
  };
  for (const [cycle, [before, between]] of fc.sample(fc.tuple(orders, orders), CYCLES).entries()) {
    const context = `cycle ${cycle}: ${JSON.stringify([before, between])}`;
    await carryOut(before, context);
    await scene.plug(cycle % 2 === 0 ? 'vf0' : 'enP1s2');
    await carryOut(between, context);
    await check('eth0', context);
    await check(nic.vf!, context);
    await scene.unplug();
    await check('eth0', context);
    watch.look(context);
  }
  expect(watch.fallen).toEqual([]);
  expect(traffic.progress().received).toBeGreaterThan(CYCLES);
  const [report] = await scene.finish();
  expectUnharmed(report!);
  expect(scene.errors).toEqual([]);
}, 300_000);
