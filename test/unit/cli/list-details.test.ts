/** The text of `twinpath list --details`. */
import { expect, it } from 'vitest';
import { capabilityLines, deviceLines } from '../../../src/cli/list-details.ts';
import type { DeviceInformation } from '../../../src/kernel/device-information.ts';
import { portCapability } from '../../../src/paths/capability.ts';

const VF: DeviceInformation = {
  device: 'enP1s1',
  mac: '00:0d:3a:44:55:00',
  driver: 'mlx5_core',
  firmware: '16.30.1240',
  bus: 'pci',
  busAddress: 'b067:00:02.0',
  mtu: { current: 1500, min: 68, max: 9978 },
  queues: { rx: 2, tx: 2, maxRx: 8, maxTx: 8 },
  rings: { rx: 1024, tx: 512, maxRx: 8192, maxTx: 4096 },
  offloads: {
    rxChecksum: { on: true, fixed: false },
    lro: { on: false, fixed: false },
    txVlan: { on: false, fixed: true },
  },
  xdp: { native: true, zeroCopy: true, multiBuffer: false, rxMetadata: [], txMetadata: [] },
  link: { up: true, speedMbps: 40_000, duplex: 'full' },
};

it('a device is described in lines, without an offload that it cannot have', () => {
  expect(deviceLines(VF)).toEqual([
    'enP1s1: mlx5_core, pci b067:00:02.0, firmware 16.30.1240',
    '  queues: 2 of 8 receive, 2 of 8 transmit',
    '  rings: 1024 of 8192 receive, 512 of 4096 transmit descriptors',
    '  MTU: 1500, from 68 to 9978',
    '  link: up, 40000 Mbit/s, full duplex',
    '  offloads on: rxChecksum; off: lro',
    '  XDP: native, zero-copy',
  ]);
});

it('a line is left out if the kernel reports nothing for it', () => {
  const silent: DeviceInformation = {
    ...VF,
    ...{ driver: '', firmware: '', bus: '', busAddress: '', rings: undefined, offloads: {}, xdp: undefined },
    mtu: { current: 1500, min: 0, max: undefined },
    link: { up: false, speedMbps: undefined, duplex: undefined },
  };
  expect(deviceLines(silent)).toEqual([
    'enP1s1: no driver reported',
    '  queues: 2 of 8 receive, 2 of 8 transmit',
    '  MTU: 1500, from 0',
    '  link: down',
    '  offloads on: none',
  ]);
});

it('an ability that the port lacks has its reason beside it', () => {
  const lines = capabilityLines(portCapability({ frameSize: 2048, synthetic: VF, vf: VF }));
  expect(lines).toContain('  MTU: 68 to 1765 (a frame of 2048 bytes serves no larger one)');
  expect(lines).toContain('  zero-copy: yes');
  expect(lines).toContain(
    '  packets longer than a buffer of the VF: no: a packet must fit one frame of 2048 bytes: open the port with frameSize: 16384',
  );
  expect(lines).toContain('  flows spread by the device: not known: known when the port has set it');
});
