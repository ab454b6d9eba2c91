import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { deviceFindings, machineFindings } from '../../../src/cli/doctor/checks.ts';
import type { DeviceFacts } from '../../../src/cli/doctor/facts.ts';
import { lockedBytes, type MachineFacts, uninstructedManagers } from '../../../src/cli/machine.ts';

const GOOD: MachineFacts = {
  ...{ kernel: '6.18.1', node: '20.20.2', lacking: [], tun: 'usable', ioUringDisabled: 0, lockdown: 'none' },
  ...{
    bpfJit: 1,
    memlock: 8 * 2 ** 20,
    queues: 2,
    managers: [],
    runtime: { folder: '/run/twinpath', refusal: undefined },
  },
};

const machine = (change: Partial<MachineFacts>): string[] =>
  machineFindings({ ...GOOD, ...change })
    .filter(({ state }) => state !== 'ok')
    .map(({ state, text, mend }) => `${state}: ${text}${mend === undefined ? '' : ` → ${mend}`}`);

const device = (name: string, more: object = {}): object => ({ name, flags: 1, xdpProgram: 0, ...more });
const information = (name: string, more: object = {}): object => ({
  ...{ device: name, driver: 'mlx5_core', mtu: { current: 1500 }, xdp: { native: true } },
  queues: { rx: 2, tx: 2, maxRx: 8, maxTx: 8 },
  ...more,
});
const GOOD_PAIR = {
  found: { kind: 'netvsc', netvsc: device('eth0'), vf: device('vf0'), reason: '' },
  ...{
    synthetic: information('eth0'),
    vf: information('vf0'),
    holder: undefined,
    managers: [],
    tcxPrograms: [],
    leftFilters: 0,
  },
};
const pair = (change: object, found: object = {}): string[] =>
  deviceFindings(
    { ...GOOD_PAIR, ...change, found: { ...GOOD_PAIR.found, ...found } } as never as DeviceFacts,
    4,
  )
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
    [{ lacking: ['CAP_IPC_LOCK'] }, /may lock 8192 KiB .* 2 queues are 32768 KiB → ulimit -l 36045, /],
    [
      { managers: ['systemd-networkd'] },
      /^note: systemd-networkd .*→ cp deploy\/network\/10-twinpath\.network /,
    ],
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
    [{ holder: { pid: 4711 } }, {}, /^problem: it is held by the port of process 4711 → twinpath stop 4711$/],
    [
      { holder: { pid: undefined } },
      {},
      /^problem: it is held by a port of an unknown process → twinpath stop eth0$/,
    ],
    [
      { tcxPrograms: [7, 9] },
      {},
      /^note: it carries tcx programs of others \(7, 9\).*--redirect-order last$/,
    ],
    [
      {},
      { netvsc: device('eth0', { xdpProgram: 5 }) },
      /^problem: it carries XDP program 5 .*copies it to the VF → ip link set eth0 xdp off$/,
    ],
    [
      { vf: information('vf0', { driver: 'ena', queues: { rx: 8, maxRx: 8 } }) },
      {},
      /^note: ena runs XDP on at most half .*: 4 of 8.*→ ethtool -L vf0 combined 4/,
    ],
    [
      { vf: information('vf0', { queues: { rx: 1, maxRx: 1 } }) },
      {},
      /^note: vf0 has room for 1 of 4 queues: .*→ .*--queues 1$/,
    ],
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
    const found = pair({ holder: { pid: 4711 } }, { vf: device('vf0', { xdpProgram: 9 }) });
    expect(found).toHaveLength(1);
  });

  it('takes a network manager for instructed if a file of its own, or of udev, names the devices', () => {
    const root = mkdtempSync(join(tmpdir(), 'twinpath-root-'));
    onTestFinished(() => rmSync(root, { recursive: true }));
    const write = (path: string, text: string): void => {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    expect(uninstructedManagers(root)).toEqual([]);
    write('run/systemd/netif/state', '');
    write('run/NetworkManager/no-stub', '');
    write('etc/systemd/network/20-other.network', '[Match]\nName=eth0\n');
    expect(uninstructedManagers(root)).toEqual(['systemd-networkd', 'NetworkManager']);
    const deployed = (file: string): string =>
      readFileSync(new URL(`../../../deploy/${file}`, import.meta.url), 'utf8');
    write('etc/udev/rules.d/85-twinpath.rules', deployed('network/85-twinpath.rules'));
    expect(uninstructedManagers(root)).toEqual(['systemd-networkd']);
    write('usr/lib/systemd/network/10-twinpath.network', deployed('network/10-twinpath.network'));
    expect(uninstructedManagers(root)).toEqual([]);
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
