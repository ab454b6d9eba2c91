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

/** The properties that are no device's, as `port.configuration` has them. */
const PORT_PROPERTIES = ['macFilter', 'rules', 'isolate', 'rss', 'queues', 'mode'] as const;

/** A whole table of queues, as the configuration keeps it. */
const table = (...queues: number[]): number[] =>
  Array.from({ length: 128 }, (_, i) => queues[i % queues.length]!);

const change: fc.Arbitrary<ConfigurationChange> = fc.record(
  {
    mtu: fc.oneof(fc.constant(null), fc.integer({ min: 1280, max: 1700 })),
    unicast: fc.subarray(UNICAST),
    multicast: fc.subarray(MULTICAST),
    promiscuous: fc.boolean(),
    allMulticast: fc.boolean(),
    macFilter: fc.boolean(),
    rules: fc.subarray(RULES),
    rss: fc.record({
      key: fc.constantFrom(null, '6d5a'.repeat(20)),
      table: fc.constantFrom(null, table(0, 1, 1, 0), table(1, 0)),
      hashTypes: fc.constantFrom(null, ['ipv4', 'udp4'] as const),
    }),
    queues: fc.constantFrom(null, [0], [1], [0, 1]),
    mode: fc.constantFrom(null, 'interrupt', 'adaptive'),
  },
  { requiredKeys: [] },
);
const orders = fc.array(change, { maxLength: 3 });

it(`${CYCLES} returns of a VF with random orders between them leave its devices as a model says`, async () => {
  const scene = await Scene.open();
  const { lab, port, nic } = scene;
  const traffic = await scene.drive();
  const watch = new CounterWatch(port);
  const links = { mtu: null as number | null, mac: null, ...NOTHING };
  const model = { ...links, macFilter: false, rules: [] as readonly unknown[], isolate: false };
  const check = async (device: string, context: string): Promise<void> => {
    const { rules, ...others } = model;
    const asked = Object.fromEntries(Object.keys(links).map((name) => [name, others[name as 'mtu']]));
    expect(configured(lab, device), context).toEqual({ ...asked, mtu: model.mtu ?? 1500, mac: nic.mac });
    for (const name of PORT_PROPERTIES) {
      if (name in model) expect(port.configuration[name], context).toEqual(model[name as 'isolate']);
    }
    expect(port.rules.list(), context).toEqual(rules);
    expect((await port.rules.counters()).rules, context).toHaveLength(rules.length);
  };
  const carryOut = async (given: readonly ConfigurationChange[], when: string): Promise<void> => {
    for (const order of given) {
      await port.configure(order);
      Object.assign(model, order);
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
