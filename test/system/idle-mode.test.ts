/** What idle workers do, changed while the port is open, seen in the number of their sleeps. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPorts, type Port } from '../../dist/src/port.js';
import { until } from '../support/harness.ts';

const REFLECT = new URL('../../dist/src/handlers/reflect.js', import.meta.url);

async function open(ports: number, queues: number): Promise<Port[]> {
  const opened = await openPorts({
    ...{ network: 'memory', handler: REFLECT, queues, mode: 'adaptive' },
    ports: Array.from({ length: ports }, () => ({})),
  });
  onTestFinished(() => opened[0]!.close());
  return opened;
}

const sleeps = (port: Port, queue: number): number => port.stats().queues[queue]!.sleeps;

/** The worker sleeps again and again. */
async function expectSleeps(port: Port, queue: number): Promise<void> {
  for (let times = 0; times < 3; times++) {
    const before = sleeps(port, queue);
    await until(`another sleep of worker ${queue}`, () => sleeps(port, queue) > before);
  }
}

/** The worker answers, and between its answers it does not sleep. An audit would end a sleep. */
async function expectAwake(port: Port, queue: number): Promise<void> {
  await port.audit(); // the round in which it answered the change may have ended in a sleep
  const before = sleeps(port, queue);
  for (let times = 0; times < 20; times++) {
    await port.audit();
    expect(sleeps(port, queue)).toBe(before);
  }
}

describe('an idle worker', { tags: 'unprivileged' }, () => {
  it('sleeps or polls as its port is configured, from the change on', async () => {
    const [port] = (await open(1, 2)) as [Port];
    for (let cycle = 0; cycle < 3; cycle++) {
      await expectSleeps(port, 0);
      await port.configure({ mode: 'poll' });
      for (const queue of [0, 1]) await expectAwake(port, queue);
      await port.configure({ mode: cycle === 1 ? 'interrupt' : null });
      await expectSleeps(port, 1);
    }
    expect(port.configuration.mode).toBeNull();
  });

  it('of several ports polls while one of them wants that of its queue', async () => {
    const [first, second] = (await open(2, 2)) as [Port, Port];
    await first.configure({ mode: 'poll' });
    await second.configure({ mode: 'interrupt' });
    await expectAwake(second, 0);
    await expectAwake(second, 1);
    await first.stopQueue(1);
    await expectAwake(second, 0);
    await expectSleeps(second, 1);
    await first.stop();
    await expectSleeps(second, 0);
    await first.start();
    await expectAwake(second, 0);
  });
});
