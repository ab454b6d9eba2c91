/** Ports on a machine whose platform announces what it is about to do to it, by a stand-in of Azure's metadata service. */
import { expect, it } from 'vitest';
import type { MaintenanceEvent } from '../../dist/src/index.js';
import { PortHealth } from '../../dist/src/metrics.js';
import { expectNoDrops, expectUnharmed, ownedBy, passed, Scene, until } from '../support/harness.ts';
import { MetadataServiceStandIn, planned } from '../support/metadata-service.ts';

it('a port leaves the VF for a freeze, returns to it afterwards, and loses nothing', async () => {
  const service = await MetadataServiceStandIn.start();
  const scene = await Scene.open({ port: { maintenance: `azure=${service.url}` } });
  const { port } = scene;
  const notices: MaintenanceEvent[] = [];
  port.on('maintenance', (event) => notices.push(event));
  const traffic = await scene.drive();
  await scene.plug();
  await passed(traffic);

  const later = new Date(Date.now() + 600_000).toUTCString();
  service.events = [planned({ NotBefore: later })];
  await until('the notice', () => notices.length === 1);
  expect(notices[0]).toMatchObject({ id: 'A1', kind: 'Freeze', state: 'scheduled' });
  expect(port.paths.vf).toBeDefined(); // it is not near

  // hv_netvsc gives the NetVSC what comes by a VF that no program has; the lab's veth does not.
  await scene.nic.moveDataPath('synthetic');
  service.events = [planned({ EventStatus: 'Started', NotBefore: '' })];
  await ownedBy(port, 'synthetic');
  expect(port.failovers().at(-1)).toMatchObject({ from: 'vf', to: 'synthetic', reason: 'maintenance' });
  await passed(traffic);
  const { polls } = service;
  await until('another poll', () => service.polls > polls + 1);
  expect(port.paths.vf).toBeUndefined();

  service.events = [];
  await ownedBy(port, 'vf');
  await scene.nic.moveDataPath('vf');
  await passed(traffic);
  expect(notices.map(({ state }) => state)).toEqual(['scheduled', 'started', 'over']);
  expectNoDrops(port);
  const [report] = await scene.finish();
  expectUnharmed(report!);
  expect(scene.errors).toEqual([]);
  expect(service.wrong).toEqual([]);
});

it('a machine that is to be redeployed is reported as unwell, and a service that does not answer as an error', async () => {
  const service = await MetadataServiceStandIn.start();
  service.status = 500;
  const scene = await Scene.open({ port: { maintenance: `azure=${service.url}`, queues: 1 } });
  const health = new PortHealth(scene.port);
  await until('the error', () => scene.errors.length > 0);
  expect(scene.errors[0]).toMatchObject({ code: 'ERR_MAINTENANCE', device: service.url });
  expect(health.problems()).toEqual([]);
  await scene.close();

  const other = await MetadataServiceStandIn.start();
  other.events = [planned({ EventType: 'Redeploy' })];
  const again = await Scene.openIn(scene.lab, { maintenance: `azure=${other.url}`, queues: 1 });
  const redeployed = new PortHealth(again.port);
  await until('the notice', () => redeployed.problems().length > 0);
  expect(redeployed.problems()).toEqual([
    'eth0: the platform ends this machine, not before 2026-11-30T18:00:00.000Z (Redeploy)',
  ]);
  other.events = [];
  await until('the end of it', () => redeployed.problems().length === 0);
  await again.close();
});
