/** The link of a port: `port.link`, and one `carrier` event for each change of it. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPort } from '../../dist/src/port.js';
import type { CarrierEvent } from '../../dist/src/port-events.js';
import { ownedBy, type Port, Scene, until } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';

const DROP = new URL('../../dist/src/handlers/drop.js', import.meta.url);

/** What the kernel says of every veth that has a link. */
const UP = { up: true, speedMbps: 10_000, duplex: 'full' } as const;
const DOWN = { up: false, speedMbps: undefined, duplex: undefined };

function eventsOf(port: Port): CarrierEvent[] {
  const events: CarrierEvent[] = [];
  port.on('carrier', (event) => events.push(event));
  return events;
}

describe('the link of a port', () => {
  it('is that of its NetVSC without a VF, and each loss and return of its carrier is one event', async () => {
    const scene = await Scene.open();
    const { port, nic } = scene;
    const events = eventsOf(port);
    expect(port.link).toEqual(UP);
    const expected: CarrierEvent[] = [];
    for (const on of [false, true, false, true]) {
      await nic.setCarrier('synthetic', on);
      const of = { port: 0, path: 'synthetic', device: nic.netvsc } as const;
      expected.push({ ...of, ...(on ? UP : DOWN) });
      await until(`${expected.length} events`, () => events.length >= expected.length);
      expect(events).toEqual(expected);
      expect(port.link).toEqual(on ? UP : DOWN);
    }
    await scene.close();
    expect(events).toEqual(expected);
    expect(port.link).toEqual(DOWN);
  });

  it('does not change in a failover between two devices that have a link of the same speed', async () => {
    const scene = await Scene.open();
    const { port, nic } = scene;
    const events = eventsOf(port);
    await scene.plug();
    await nic.setCarrier('vf', false);
    await ownedBy(port, 'synthetic');
    await nic.setCarrier('vf', true);
    await ownedBy(port, 'vf');
    await scene.unplug();
    expect([events, port.link]).toEqual([[], UP]);
    await scene.close();
  });

  it('is up through a VF while its NetVSC has none, and down when that VF goes', async () => {
    const scene = await Scene.open();
    const { port, nic } = scene;
    const events = eventsOf(port);
    await scene.plug();
    await nic.setCarrier('synthetic', false);
    await until(
      'the carrier lost in the guest',
      () => linkIn(scene.lab.guest, nic.netvsc)?.carrier === false,
    );
    // The port has handled the message about the carrier when it handles a later one.
    execFileSync('ip', ['-n', scene.lab.guest, 'link', 'set', nic.netvsc, 'mtu', '1400']);
    await until('the later change', () => scene.news.some(({ detail }) => detail?.includes('1400')));
    expect([events, port.link]).toEqual([[], UP]);
    await nic.unplug();
    await until('an event', () => events.length > 0);
    await nic.setCarrier('synthetic', true);
    await until('two events', () => events.length > 1);
    expect(events.map(({ path, up }) => [path, up])).toEqual([
      ['synthetic', false],
      ['synthetic', true],
    ]);
    await scene.close();
  });

  it('of one of several ports changes alone', async () => {
    const scene = await Scene.open({ lab: { nics: 2 } });
    const [first, second] = scene.ports.map(eventsOf);
    await scene.lab.nics[1]!.setCarrier('synthetic', false);
    await until('an event', () => second!.length > 0);
    expect(second).toMatchObject([{ port: 1, up: false }]);
    expect(first).toEqual([]);
    await scene.close();
  });
});

describe('the link of a port in memory', { tags: 'unprivileged' }, () => {
  it('is up while it has a path, and its speed is unknown', async () => {
    const port = await openPort({ network: 'memory', handler: DROP, queues: 1 });
    onTestFinished(() => port.close());
    const events = eventsOf(port);
    const up = { up: true, speedMbps: undefined, duplex: undefined };
    expect(port.link).toEqual(up);
    port.unplug('synthetic');
    await until('an event', () => events.length > 0);
    expect(port.link).toEqual(DOWN);
    port.plug('vf', 'vf0');
    await until('two events', () => events.length > 1);
    expect(events).toEqual([
      { port: 0, path: 'none', device: 'memory0', ...DOWN },
      { port: 0, path: 'vf', device: 'vf0', ...up },
    ]);
    await port.close();
    expect(events).toHaveLength(2);
  });
});
