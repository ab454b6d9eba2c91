/** Case 7 of docs/conformance.md: what a port has counted, in a thousand failovers. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPort } from '../../dist/src/port.js';
import { CounterWatch } from '../support/counters.ts';
import { owners, until } from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';

const REFLECT = new URL('../../dist/src/handlers/reflect.js', import.meta.url);

describe('case 7: the counters', { tags: 'unprivileged' }, () => {
  it('never fall in 1000 failovers with orders between them, and those of the queues add up', async () => {
    const port = await openPort({ network: 'memory', handler: REFLECT, queues: 2, mode: 'interrupt' });
    onTestFinished(() => port.close());
    const traffic = [0, 1].map((queue) => new NumberedTraffic(port, queue));
    const watch = new CounterWatch(port);
    for (let cycle = 0; cycle < 500; cycle++) {
      for (const [action, owner] of [
        ['plug', 'vf'],
        ['unplug', 'synthetic'],
      ] as const) {
        for (const one of traffic) one.spin(8);
        port[action]('vf');
        // A path that is left by choice is left when the other end has taken what was sent.
        await until(`cycle ${cycle}: ${owner}`, () => {
          for (const one of traffic) one.spin(0);
          return owners(port).every((path) => path === owner);
        });
        if (cycle % 50 === 0) await port.configure({ promiscuous: cycle % 100 === 0 });
        if (cycle % 70 === 0) await port.setQueues(1 + ((cycle / 70) % 2));
        for (const one of traffic) one.spin(8);
        watch.look(`cycle ${cycle}`);
      }
    }
    expect(watch.fallen).toEqual([]);
    const stats = port.stats();
    const paths = Object.values(stats.paths);
    const sum = (
      of: readonly { rxPackets: number; txPackets: number }[],
      name: 'rxPackets' | 'txPackets',
    ): number => of.reduce((all, one) => all + one[name], 0);
    for (const name of ['rxPackets', 'txPackets'] as const) {
      const byQueue = stats.queues.map(({ paths }) => sum(Object.values(paths), name));
      expect(
        byQueue.reduce((all, packets) => all + packets, 0),
        name,
      ).toBe(sum(paths, name));
    }
    expect(stats.received).toBeGreaterThan(1000);
    expect(port.failovers().length).toBeGreaterThan(1000);
  }, 120_000);
});
