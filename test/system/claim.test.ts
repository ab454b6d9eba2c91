/** A NetVSC serves one port at a time, whoever opens it. */
import { expect, test } from 'vitest';
import { openPort } from '../../dist/src/index.js';
import { Lab } from '../../dist/src/lab/host.js';

test.each(['tcx', 'clsact'] as const)(
  'a second port on a NetVSC is refused and the first goes on (%s)',
  async (tie) => {
    await using lab = await Lab.create();
    const options = {
      netns: lab.guest,
      netvsc: lab.nic.netvsc,
      force: true,
      queues: 2,
      tie,
      handler: new URL('../../dist/src/handlers/drop.js', import.meta.url),
    };
    const first = await openPort(options);
    await expect(openPort(options)).rejects.toMatchObject({ code: 'ERR_DEVICE_BUSY' });
    expect(first.stats().queues.every(({ owner }) => owner === 'synthetic')).toBe(true);
    await first.close();

    const second = await openPort(options);
    await second.close();
  },
);
