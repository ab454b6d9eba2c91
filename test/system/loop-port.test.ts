/**
 * Ports whose paths hand back what they are sent: packets circulate without a network.
 *
 * @module-tag unprivileged
 */
import { expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { openPort } from '../../dist/src/index.js';
import { until } from '../support/harness.ts';

const CIRCULATE = new URL('../../dist/perf/wasm/circulate.wasm', import.meta.url);
const PACKETS = 300;

it('packets circulate on the path that owns the queue, and none is lost when the owner changes', async () => {
  const port = await openPort({
    ...{ network: 'loop', queues: 1, handler: CIRCULATE, handlerOptions: { packets: PACKETS, bytes: 60 } },
  });
  onTestFinished(() => port.close());
  const received = (path: 'synthetic' | 'vf') => port.stats().paths[path].rxPackets;
  const goesOn = async (path: 'synthetic' | 'vf'): Promise<void> => {
    const before = received(path);
    await until(`${path} moves packets`, () => received(path) > before + 100 * PACKETS);
  };
  await goesOn('synthetic');
  for (let turn = 0; turn < 3; turn++) {
    port.plug('vf');
    await goesOn('vf');
    port.unplug('vf');
    await goesOn('synthetic');
  }
  const [ledger] = await port.audit();
  expect(ledger).toMatchObject({ accounted: ledger!.total, duplicates: 0, rx: PACKETS, tx: 0, fill: 0 });
  expect(port.stats()).toMatchObject({ sent: PACKETS });
  expect(Object.values(port.stats().dropped).every((count) => count === 0)).toBe(true);
});
