/** The lab as people's own tests have it: by the package's name. */
import { openPort } from 'twinpath';
import { Lab, Traffic } from 'twinpath/lab';
import { expect, it } from 'vitest';
import { until } from '../support/harness.ts';

it('a lab, a port and traffic by their public names lose no packet when the VF goes', async () => {
  await using lab = await Lab.create({ queues: 1 });
  const { nic, guest: netns } = lab;
  const handler = new URL('../../dist/src/handlers/echo.js', import.meta.url);
  const handlerOptions = { address: nic.guestAddress };
  await using port = await openPort({
    ...{ netns, netvsc: nic.netvsc, force: true, queues: 1, handler, handlerOptions },
  });
  await using traffic = await Traffic.start(lab, nic, { rate: 2000 });
  await nic.plug();
  await until('the VF has the queue', () => port.stats().queues[0]?.owner === 'vf');
  await nic.moveDataPath('vf');
  await until('packets come by the VF', () => port.stats().paths.vf.rxPackets > 100);
  await nic.unplug();
  const { packets, icmp } = await traffic.stop();
  expect(packets.received).toBeGreaterThan(100);
  for (const tally of [packets, icmp])
    expect(tally).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
  expect(nic.events.map(({ kind }) => kind)).toEqual([
    ...['plug', 'up', 'datapath-vf', 'datapath-synthetic', 'down', 'delete'],
  ]);
});

it('a lab refuses what it cannot build before it builds anything', async () => {
  await expect(Lab.create({ queues: 17 })).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
});
