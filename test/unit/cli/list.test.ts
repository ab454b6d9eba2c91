/** What `twinpath list` says of a device that a port cannot have, or has already. */
import { expect, it } from 'vitest';
import { obstacles } from '../../../src/cli/list.ts';
import type { MachineFacts } from '../../../src/cli/machine.ts';

const link = (name: string, more: object = {}): object => ({ name, flags: 1, xdpProgram: 0, ...more });
const said = (device: object, machine: object = {}): string[] =>
  obstacles(
    {
      ...{
        kind: 'netvsc',
        netvsc: link('eth0'),
        vf: link('vf0', { xdpProgram: 9 }),
        reason: '',
        holder: undefined,
      },
      ...device,
    } as never,
    { lacking: [], tun: 'usable', ...machine } as never as MachineFacts,
  );

it('names the process that holds a device, and does not take the program of its port for another', () => {
  expect(said({})).toEqual(['its VF vf0 carries XDP program 9 already']);
  expect(said({ holder: { pid: 4711 } })).toEqual(['it is held by the port of process 4711']);
  expect(said({ holder: { pid: undefined } })).toEqual(['it is held by a port of an unknown process']);
});

it('names what this user lacks', () => {
  const machine = { lacking: ['CAP_BPF'], tun: 'refused' };
  expect(said({ vf: undefined }, machine)).toEqual([
    'this user may not open /dev/net/tun',
    'this process lacks CAP_BPF',
  ]);
});
