import { describe, expect, it } from 'vitest';
import { deviceFindings, machineFindings } from '../../../src/cli/doctor/checks.ts';
import { type DeviceFacts, lockedBytes, type MachineFacts } from '../../../src/cli/doctor/facts.ts';

const GOOD: MachineFacts = {
  ...{ kernel: '6.18.1', node: '20.20.2', lacking: [], tun: 'usable', ioUringDisabled: 0, lockdown: 'none' },
  ...{
    bpfJit: 1,
    memlock: 8 * 2 ** 20,
    runtime: { folder: '/run/twinpath', refusal: undefined },
  },
};

const machine = (change: Partial<MachineFacts>): string[] =>
  machineFindings({ ...GOOD, ...change })
    .filter(({ state }) => state !== 'ok')
    .map(({ state, text, mend }) => `${state}: ${text}${mend === undefined ? '' : ` → ${mend}`}`);

const device = (name: string, more: object = {}): object => ({ name, flags: 1, xdpProgram: 0, ...more });
const information = (name: string, more: object = {}): object => ({
  ...{ device: name, mtu: { current: 1500 }, xdp: { native: true } },
  ...more,
});
const GOOD_PAIR = {
  found: { kind: 'netvsc', netvsc: device('eth0'), vf: device('vf0'), reason: '' },
  ...{
    synthetic: information('eth0'),
    vf: information('vf0'),
    holder: undefined,
    managers: [],
    leftFilters: 0,
  },
};
const pair = (change: object, found: object = {}): string[] =>
  deviceFindings({ ...GOOD_PAIR, ...change, found: { ...GOOD_PAIR.found, ...found } } as never as DeviceFacts)
    .filter(({ state }) => state !== 'ok')
    .map(({ state, text, mend }) => `${state}: ${text}${mend === undefined ? '' : ` → ${mend}`}`);

describe('the doctor', () => {
  it('has nothing to say of a machine and a pair that are as they should be', () => {
    expect([machine({}), pair({})]).toEqual([[], []]);
  });

  it.each<[Partial<MachineFacts>, RegExp]>([
    [{ kernel: '5.4.0' }, /^problem: .*older than 5\.10/],
    [{ kernel: '6.1.0-21-amd64' }, /^note: .*tc filters/],
    [{ lacking: ['CAP_BPF'] }, /^problem: .*lacks CAP_BPF → run as root/],
    [{ lacking: ['CAP_IPC_LOCK'] }, /^problem: .*lacks CAP_IPC_LOCK/],
    [{ tun: 'missing' }, /→ modprobe tun$/],
    [{ tun: 'refused' }, /→ chmod a\+rw/],
    [{ ioUringDisabled: 2 }, /^note: io_uring .*→ sysctl/],
    [{ lockdown: 'confidentiality' }, /^problem: .*lockdown/],
    [{ bpfJit: 0 }, /^note: .*→ sysctl net\.core\.bpf_jit_enable=1/],
    [
      { runtime: { folder: '/run/twinpath', refusal: 'its mode must be 700' } },
      /→ chmod 700 \/run\/twinpath$/,
    ],
  ])('names what is wrong with the machine, and what mends it: %j', (change, expected) => {
    expect(machine(change)).toContainEqual(expect.stringMatching(expected));
  });

  it('takes enough lockable memory in place of the capability for it', () => {
    expect(machine({ lacking: ['CAP_IPC_LOCK'], memlock: Number.POSITIVE_INFINITY })).toEqual([]);
  });

  it.each<[object, object, RegExp]>([
    [{ holder: '4711' }, {}, /^problem: the port of process 4711 has it → twinpath stop eth0$/],
    [{}, { reason: 'has the address 10.0.0.4' }, /^note: it has the address 10\.0\.0\.4: /],
    [{}, { netvsc: device('eth0', { flags: 0 }) }, /→ ip link set eth0 up$/],
    [
      {},
      { vf: device('vf0', { xdpProgram: 9 }) },
      /^problem: vf0 carries XDP program 9 .*→ ip link set vf0 xdp off$/,
    ],
    [{ vf: information('vf0', { mtu: { current: 1400 } }) }, {}, /→ ip link set vf0 mtu 1500$/],
    [{ vf: information('vf0', { xdp: { native: false } }) }, {}, /^note: .*generic hook/],
    [{ vf: undefined }, { vf: undefined }, /^note: it has no VF now/],
    [{ managers: [{ manager: 'NetworkManager', device: 'vf0' }] }, {}, /→ nmcli device set vf0 managed no$/],
    [{ leftFilters: 2 }, {}, /^note: a killed process left [^→]*$/],
  ])('names what is wrong with a device, and what mends it: %j %j', (change, found, expected) => {
    expect(pair(change, found)).toContainEqual(expect.stringMatching(expected));
  });

  it('does not call the program of a running port one of somebody else', () => {
    const found = pair({ holder: '4711' }, { vf: device('vf0', { xdpProgram: 9 }) });
    expect(found).toHaveLength(1);
  });

  it('reads the limit of locked memory', () => {
    const limits = (soft: string): string =>
      `Limit                     Soft Limit           Hard Limit           Units     \nMax locked memory         ${soft}              8388608              bytes     \n`;
    expect([lockedBytes(limits('8388608')), lockedBytes(limits('unlimited'))]).toEqual([
      8_388_608,
      Number.POSITIVE_INFINITY,
    ]);
  });
});
