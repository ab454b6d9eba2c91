import { describe, expect, it } from 'vitest';
import { choose, freePairs, refuseToCut, type Wanted } from '../../../src/coordinator/discovery.ts';
import { discover, type Snapshot } from '../../../src/coordinator/inventory.ts';
import { isNetvsc } from '../../../src/coordinator/netvsc.ts';
import { TwinpathError } from '../../../src/errors.ts';
import { azure, azureSysfs, link } from '../../support/machine.ts';

const MGMT = '00:0d:3a:11:22:00';
const DATA = '00:0d:3a:44:55:00';

function chosen(snapshot: Snapshot, wanted: Wanted, taken?: ReadonlySet<number>): string {
  const { netvsc, vf, kind } = choose(snapshot, wanted, taken);
  const told = { netvsc: '', 'stand-in': ' forced', net_failover: ' net_failover', card: ' card' }[kind];
  return `${netvsc.name} ${vf?.name ?? '-'}${told}`;
}

function refusal(snapshot: Snapshot, wanted: Wanted, taken?: ReadonlySet<number>): TwinpathError {
  try {
    choose(snapshot, wanted, taken);
  } catch (error) {
    if (error instanceof TwinpathError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const machine = azure('mlx5');
const lab: Snapshot = {
  links: [
    link({ ifindex: 1, name: 'lo', type: 772 }),
    link({ ifindex: 2, name: 'eth0', kind: 'veth', address: DATA }),
    link({ ifindex: 3, name: 'vf0', kind: 'veth', address: DATA }),
    link({ ifindex: 4, name: 'other', kind: 'veth', address: '02:00:00:00:00:04' }),
  ],
  addresses: [],
  defaultRoutes: [],
  sysfs: azureSysfs,
};

describe('a NetVSC', () => {
  it('is recognised by its class on VMBus, through rtnetlink or sysfs', () => {
    expect(machine.links.map((one) => isNetvsc(one, azureSysfs))).toEqual([false, true, true, false]);
    expect(isNetvsc({ ...machine.links[1]!, parentBus: '', parentDevice: '' }, azureSysfs)).toBe(true);
  });

  it('is no other VMBus device, and no virtual device of the same name', () => {
    const eth0 = machine.links[1]!;
    const other = { ...eth0, parentDevice: 'c7a1f2b0-b067-4f3e-8a11-5d6e7f809101' };
    expect(isNetvsc(other, azureSysfs)).toBe(false);
    expect(isNetvsc({ ...eth0, parentBus: '', parentDevice: '', kind: 'veth' }, azureSysfs)).toBe(false);
  });

  it('is recognised by its bus where sysfs is not mounted', () => {
    expect(isNetvsc({ ...machine.links[1]!, parentDevice: 'unheard-of' }, azureSysfs)).toBe(true);
  });
});

describe('without a name', () => {
  it('the one NetVSC that carries nothing is chosen, with its VF', () => {
    expect(chosen(machine, {})).toBe('eth1 enP45159s2np0');
  });

  it('a link-local IPv6 address does not make a device busy, any other does', () => {
    const with_ = (family: number, address: string, ifindex = 3) => ({
      ...machine,
      addresses: [...machine.addresses, { ifindex, family, address, scope: 0 }],
    });
    expect(refusal(with_(2, '10.1.0.4'), {}).code).toBe('ERR_DEVICE_IN_USE');
    expect(refusal(with_(2, '169.254.7.7'), {}).code).toBe('ERR_DEVICE_IN_USE');
    expect(refusal(with_(10, 'fd00::4'), {}).message).toContain('eth1 has the address fd00::4');
    expect(refusal(with_(2, '10.1.0.4', 4), {}).code).toBe('ERR_DEVICE_IN_USE'); // on the VF
  });

  it('a default route makes a device busy', () => {
    const { message } = refusal({ ...machine, defaultRoutes: [2, 3] }, {});
    expect(message).toContain('eth0 carries a default route');
    expect(message).toContain('eth1 carries a default route');
    expect(message).toContain('--netvsc');
  });

  it('addresses on a VLAN, a bridge or a bond above make it busy', () => {
    const vlan = link({ ifindex: 30, name: 'eth1.7', kind: 'vlan', peer: 3 });
    const bridge = link({ ifindex: 31, name: 'br0', kind: 'bridge' });
    const addresses = (ifindex: number) => [{ ifindex, family: 2, address: '10.7.0.1', scope: 0 }];
    const onVlan = {
      ...machine,
      links: [...machine.links, vlan],
      addresses: addresses(30),
      defaultRoutes: [2],
    };
    expect(refusal(onVlan, {}).code).toBe('ERR_DEVICE_IN_USE');
    const onBridge = {
      ...onVlan,
      links: [...machine.links, { ...vlan, master: 31 }, bridge],
      addresses: addresses(31),
    };
    expect(refusal(onBridge, {}).code).toBe('ERR_DEVICE_IN_USE');
    const port = {
      ...machine,
      links: [...machine.links.map((one) => (one.ifindex === 3 ? { ...one, master: 31 } : one)), bridge],
    };
    expect(refusal(port, {}).message).toContain('eth1 is a port of br0');
  });

  it('two that carry nothing are named and none is taken', () => {
    const error = refusal({ ...machine, addresses: [], defaultRoutes: [] }, {});
    expect(error.code).toBe('ERR_DEVICE_AMBIGUOUS');
    expect(error.message).toContain('eth0, eth1');
    expect(chosen({ ...machine, addresses: [], defaultRoutes: [] }, {}, new Set([2]))).toBe(
      'eth1 enP45159s2np0',
    );
  });

  it('a machine without NetVSC says so, and force alone takes nothing', () => {
    expect(refusal(lab, {}).code).toBe('ERR_NO_NETVSC');
    expect(refusal(lab, { force: true }).code).toBe('ERR_NO_NETVSC');
  });

  it('NetVSCs that ports of this process have are left alone', () => {
    expect(refusal(machine, {}, new Set([2, 3])).code).toBe('ERR_DEVICE_BUSY');
  });
});

describe('by name', () => {
  it.each<[string, Wanted]>([
    ['its name', { netvsc: 'eth1' }],
    ['an alternative name', { netvsc: 'data0' }],
    ['its MAC', { netvsc: DATA }],
    ['its MAC in Windows spelling', { netvsc: '00-0D-3A-44-55-00' }],
    ['the option mac', { mac: DATA.toUpperCase() }],
    ['name and MAC', { netvsc: 'eth1', mac: DATA }],
    ['the name of its VF', { netvsc: 'enP45159s2np0' }],
    ['the VF', { vf: 'enP45159s2np0' }],
    ['an alternative name of the VF', { vf: 'enP45159p0s2np0' }],
    ['the MAC of the VF', { vf: DATA }],
    ['the PCI address of the VF', { vf: 'B067:00:02.0' }],
    ['both', { netvsc: 'eth1', vf: 'b067:00:02.0' }],
  ])('%s leads to the NetVSC and its VF', (_, wanted) => {
    expect(chosen(machine, wanted)).toBe('eth1 enP45159s2np0');
  });

  it('a VF that has not joined yet leads to its NetVSC by the MAC', () => {
    expect(chosen(azure('mlx5-before-join'), { netvsc: 'eth2' })).toBe('eth1 eth2');
  });

  it('a device with addresses and the default route is taken', () => {
    expect(chosen(machine, { netvsc: 'eth0' })).toBe('eth0 -');
    expect(chosen(machine, { mac: MGMT })).toBe('eth0 -');
    expect(chosen(azure('mana'), { vf: 'enP30832s1' })).toBe('eth0 enP30832s1');
  });

  it('a PCI address that two NetVSCs share is ambiguous alone and fine beside a name', () => {
    expect(refusal(azure('mana'), { vf: '7870:00:00.0' }).code).toBe('ERR_DEVICE_AMBIGUOUS');
    expect(chosen(azure('mana'), { netvsc: 'eth1', vf: '7870:00:00.0' })).toBe('eth1 enP30832s1d1');
  });

  it('the VF may be away', () => {
    const without = { ...machine, links: machine.links.slice(0, 3) };
    expect(chosen(without, { netvsc: 'eth1' })).toBe('eth1 -');
    expect(chosen(without, { vf: DATA })).toBe('eth1 -');
  });

  it('a name and a MAC that disagree are refused', () => {
    const error = refusal(machine, { netvsc: 'eth1', mac: MGMT });
    expect(error.code).toBe('ERR_OPTION_INVALID');
    expect(error.message).toContain(DATA);
    expect(refusal(machine, { mac: '00:0d:3a' }).code).toBe('ERR_OPTION_INVALID');
    expect(refusal(machine, { netvsc: 'eth0', vf: 'enP45159s2np0' }).code).toBe('ERR_OPTION_INVALID');
  });

  it('an unknown device is answered with the nearest one', () => {
    expect(refusal(machine, { netvsc: 'eth11' }).hint).toContain('eth1');
    expect(refusal({ ...machine, defaultRoutes: [] }, { netvsc: 'eht0' }).hint).toContain('eth0');
    expect(refusal(machine, { mac: '00:0d:3a:44:55:01' }).hint).toContain(DATA);
    const { code, hint } = refusal(machine, { netvsc: 'eth1', vf: 'enP45159s2' });
    expect(code).toBe('ERR_DEVICE_NOT_FOUND');
    expect(hint).toContain('enP45159s2np0');
    expect(refusal({ ...machine, links: [] }, { netvsc: 'eth0' }).hint).toBeUndefined();
  });

  it('a device that carries the default route, or is no Ethernet device, is never suggested', () => {
    const links = [
      link({ ifindex: 1, name: 'lo', type: 772 }),
      link({ ifindex: 2, name: 'eth0' }),
      link({ ifindex: 3, name: 'vlan7', kind: 'vlan', peer: 2 }),
      link({ ifindex: 4, name: 'wan0' }),
      link({ ifindex: 5, name: 'tlock7', kind: 'tun' }),
    ];
    const hint = (netvsc: string, defaultRoutes: number[]): string | undefined =>
      refusal({ ...machine, links, defaultRoutes }, { netvsc }).hint;
    expect(hint('eth1', [])).toContain('eth0');
    expect(hint('eth1', [2])).toBeUndefined();
    expect(hint('eth1', [3])).toBeUndefined(); // through a VLAN on it
    expect(hint('wan1', [2])).toContain('wan0');
    expect(hint('tlock8', [])).toBeUndefined();
    for (const far of ['l0', 'zzz', 'zz', 'x', 'a'.repeat(100_000)]) expect(hint(far, [2])).toBeUndefined();
  });

  it('a device that a port of this process has is busy', () => {
    expect(refusal(machine, { netvsc: 'eth1' }, new Set([3])).code).toBe('ERR_DEVICE_BUSY');
  });
});

describe('all that the machine does not use', () => {
  const idle = { ...machine, addresses: [], defaultRoutes: [] };
  const names = (snapshot: Snapshot, ignore?: string[]): string[] =>
    freePairs(snapshot, ignore).map(({ netvsc, vf }) => `${netvsc.name} ${vf?.name ?? '-'}`);
  const refused = (snapshot: Snapshot, ignore?: string[]): TwinpathError => {
    try {
      freePairs(snapshot, ignore);
    } catch (error) {
      if (error instanceof TwinpathError) return error;
      throw error;
    }
    throw new Error('nothing was refused');
  };

  it('is every NetVSC without an address or a default route, by ifindex, whatever order the kernel has', () => {
    expect(names(machine)).toEqual(['eth1 enP45159s2np0']);
    expect(names(idle)).toEqual(['eth0 -', 'eth1 enP45159s2np0']);
    expect(names({ ...idle, links: idle.links.toReversed() })).toEqual(['eth0 -', 'eth1 enP45159s2np0']);
  });

  it.each(['eth1', 'data0', DATA, DATA.toUpperCase().replaceAll(':', '-'), 'enP45159s2np0', 'B067:00:02.0'])(
    'is without the pair of which a device is to be ignored: %s',
    (text) => {
      expect(names(idle, [text])).toEqual(['eth0 -']);
      expect(chosen(idle, { ignore: [text] })).toBe('eth0 -');
      expect(chosen(idle, { ignore: [text, 'not there'] })).toBe('eth0 -');
    },
  );

  it('says what was looked at and why nothing is taken', () => {
    const busy = refused(machine, ['eth1']);
    expect(busy.code).toBe('ERR_DEVICE_IN_USE');
    expect(busy.detail).toBe(
      'eth0 carries a default route and has the address 10.0.0.4; eth1 is to be ignored',
    );
    expect(refusal(machine, { ignore: ['eth1'] }).detail).toBe(busy.detail);
    const own = refusal(machine, { ignore: ['eth0'] }, new Set([3]));
    expect(own.detail).toBe('eth0 is to be ignored; eth1 is used by another port of this process');
    expect(refused(lab).code).toBe('ERR_NO_NETVSC');
    const card = link({ ifindex: 9, name: 'ens5', parentBus: 'pci', parentDevice: '0000:00:05.0' });
    expect(refused({ ...lab, links: [...lab.links, card] }).detail).toBe('ens5 is one card alone');
  });

  it('has a way out where one has to be named', () => {
    expect(refusal(idle, {}).hint).toMatch(/--netvsc NAME.*'all'.*--all/);
  });

  it('is not named as well: that contradicts ignore', () => {
    for (const wanted of [{ netvsc: 'eth1' }, { device: 'data0' }, { vf: 'enP45159s2np0' }]) {
      const error = refusal(machine, { ...wanted, ignore: [DATA] });
      expect(error).toMatchObject({ code: 'ERR_OPTION_INVALID', device: 'ignore' });
      expect(error.message).toContain('eth1');
    }
  });

  it('is taken by its name only while the machine still does not use it', () => {
    expect(chosen(machine, { netvsc: 'eth1', unused: true })).toBe('eth1 enP45159s2np0');
    const error = refusal(machine, { netvsc: 'eth0', unused: true });
    expect(error).toMatchObject({ code: 'ERR_DEVICE_IN_USE', device: 'eth0' });
    expect(error.message).toContain('10.0.0.4');
  });
});

describe('force', () => {
  it('is needed for a device that is not a NetVSC', () => {
    const error = refusal(lab, { netvsc: 'other' });
    expect(error.code).toBe('ERR_DEVICE_NOT_NETVSC');
    expect(error.message).toContain('veth');
    expect(error.hint).toContain('force');
    expect(chosen(lab, { netvsc: 'other', force: true })).toBe('other - forced');
  });

  it('pairs a stand-in with a virtual VF of the same MAC', () => {
    expect(chosen(lab, { netvsc: 'eth0', force: true })).toBe('eth0 vf0 forced');
    expect(chosen(lab, { vf: 'vf0', force: true })).toBe('eth0 vf0 forced');
  });

  it('of several devices with one MAC takes the one that the others have joined, and else none', () => {
    expect(refusal(lab, { mac: DATA, force: true }).code).toBe('ERR_DEVICE_AMBIGUOUS');
    const links = lab.links.map((one) => (one.ifindex === 3 ? { ...one, master: 2 } : one));
    expect(chosen({ ...lab, links }, { mac: DATA, force: true })).toBe('eth0 vf0 forced');
  });

  it('changes nothing for a NetVSC or its VF', () => {
    expect(chosen(machine, { netvsc: 'eth1', force: true })).toBe('eth1 enP45159s2np0');
    expect(chosen(machine, { netvsc: 'enP45159s2np0', force: true })).toBe('eth1 enP45159s2np0');
  });

  it('does not make Ethernet of the loopback device', () => {
    expect(refusal(lab, { netvsc: 'lo', force: true }).code).toBe('ERR_DEVICE_NOT_NETVSC');
  });
});

describe('a port that leaves the machine nothing', () => {
  const cut = (snapshot: Snapshot, netvsc: string) => () =>
    refuseToCut(snapshot, choose(snapshot, { netvsc }));

  it('is refused on the NetVSC of the default route, with a way out', () => {
    expect(cut(machine, 'eth0')).toThrow(
      expect.objectContaining({
        ...{ code: 'ERR_DEVICE_IN_USE', device: 'eth0' },
        hint: expect.stringMatching(/ingress.*cutHost/),
      }),
    );
    expect(cut({ ...machine, defaultRoutes: [2, 3] }, 'eth1')).toThrow(/default route/);
  });

  it('is refused if the default route leads through its VF, or through a device on top of it', () => {
    expect(cut({ ...machine, defaultRoutes: [4] }, 'eth1')).toThrow(/default route/);
    const vlan = link({ ifindex: 30, name: 'eth1.7', kind: 'vlan', peer: 3 });
    const onVlan = { ...machine, links: [...machine.links, vlan], defaultRoutes: [30] };
    expect(cut(onVlan, 'eth1')).toThrow(/default route/);
  });

  it('is allowed on a device with addresses only, and on one without the default route', () => {
    expect(cut(machine, 'eth1')).not.toThrow();
    expect(cut({ ...machine, defaultRoutes: [] }, 'eth0')).not.toThrow();
  });
});

describe('the list', () => {
  it('shows for each NetVSC its VF and addresses, and whether openPort would take it', () => {
    const [eth0, eth1] = discover(machine);
    expect(eth0).toMatchObject({
      netvsc: { name: 'eth0' },
      vf: undefined,
      driver: 'hv_netvsc',
      vfDriver: '',
      queues: 64,
      vfQueues: 0,
      addresses: ['10.0.0.4'],
      defaultRoute: true,
      free: false,
      reason: 'carries a default route and has the address 10.0.0.4',
    });
    expect(eth1).toMatchObject({
      vf: { name: 'enP45159s2np0' },
      vfDriver: 'mlx5_core',
      free: true,
      reason: '',
    });
    expect(discover(azure('mana')).map(({ vfDriver }) => vfDriver)).toEqual(['mana', 'mana']);
    expect(discover(lab)).toEqual([]);
  });
});
