import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { choose, refuseToCut, type Wanted } from '../../../src/coordinator/discovery.ts';
import { cards, discover, type Snapshot } from '../../../src/coordinator/inventory.ts';
import { KINDS, type KindName } from '../../../src/coordinator/kinds.ts';
import { TwinpathError } from '../../../src/errors.ts';
import type { Link } from '../../../src/kernel/rtnetlink.ts';
import { azureSysfs, link } from '../../support/machine.ts';

const MAC = '52:54:00:00:00:05';

/** As `virtio-net-pci,failover=on` beside a NIC of the same MAC looks in a guest of Linux 6.12. */
const failover = (first: number, mac = MAC): { master: Link; standby: Link; vf: Link } => {
  const [parentBus, parentDevice] = ['virtio', `virtio${first}`];
  const common = { address: mac, permanentAddress: mac };
  return {
    standby: link({
      ...{ ...common, ifindex: first, name: `ens${first}nsby`, master: first + 1, physicalPort: 'sby' },
      ...{ parentBus, parentDevice },
    }),
    master: link({
      ...common,
      ifindex: first + 1,
      name: `ens${first}`,
      parentBus,
      parentDevice,
      numRxQueues: 16,
    }),
    vf: link({
      ...{ ...common, ifindex: first + 2, name: `enp${first}s0`, master: first + 1 },
      ...{ parentBus: 'pci', parentDevice: `0000:${(first + 2).toString(16).padStart(2, '0')}:00.0` },
    }),
  };
};

const machine = (links: readonly Link[], change: Partial<Snapshot> = {}): Snapshot => ({
  ...{ links, addresses: [], defaultRoutes: [], sysfs: azureSysfs, ...change },
});

const card = (ifindex: number, change: Partial<Link> = {}): Link =>
  link({
    ...{ ifindex, name: `eno${ifindex}`, address: `02:00:00:00:00:${ifindex.toString(16).padStart(2, '0')}` },
    ...{ parentBus: 'pci', parentDevice: `0000:${ifindex.toString(16).padStart(2, '0')}:00.0`, ...change },
  });

const chosen = (snapshot: Snapshot, wanted: Wanted, taken?: ReadonlySet<number>): string => {
  const { netvsc, vf, kind } = choose(snapshot, wanted, taken);
  return `${kind}: ${netvsc.name} ${vf?.name ?? '-'}`;
};

function refusal(snapshot: Snapshot, wanted: Wanted, taken?: ReadonlySet<number>): TwinpathError {
  try {
    choose(snapshot, wanted, taken);
  } catch (error) {
    if (error instanceof TwinpathError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a net_failover device', () => {
  const { master, standby, vf } = failover(5);
  const guest = machine([standby, master, vf]);

  it('is found without a name, with its VF, and its standby leg is not taken for a VF, in any order of links', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([standby, master, vf], { minLength: 3 }), (links) => {
        expect(chosen(machine(links), {})).toBe('net_failover: ens5 enp5s0');
      }),
    );
    expect(chosen(machine([standby, master]), {})).toBe('net_failover: ens5 -');
    expect(chosen(guest, { force: true })).toBe('net_failover: ens5 enp5s0');
  });

  it('is found by the name of each of its legs, with and without force', () => {
    for (const { name, parentDevice } of guest.links) {
      for (const wanted of [{ netvsc: name }, { netvsc: name, force: true }, { device: name }]) {
        expect(chosen(guest, wanted)).toBe('net_failover: ens5 enp5s0');
      }
      if (parentDevice.includes(':')) expect(chosen(guest, { vf: parentDevice })).toContain('ens5 enp5s0');
    }
    for (const wanted of [{ mac: MAC }, { device: MAC }, { vf: 'enp5s0' }, { device: '0000:07:00.0' }]) {
      expect(chosen(guest, wanted)).toBe('net_failover: ens5 enp5s0');
    }
    expect(refusal(guest, { netvsc: 'ens5', vf: 'ens5nsby' })).toMatchObject({ code: 'ERR_OPTION_INVALID' });
  });

  it('is recognised by its standby leg: other enslaved or stacked devices are not', () => {
    const { standby: is } = KINDS.net_failover;
    expect(is(master, guest)).toBe(standby);
    for (const change of [
      { physicalPort: '' },
      { physicalPort: 'p0' },
      { master: 0 },
      { parentDevice: 'virtio9' },
      { parentBus: 'pci' },
    ]) {
      expect(is(master, machine([{ ...standby, ...change }, master, vf]))).toBeUndefined();
    }
    const bond = { ...master, kind: 'bond' };
    expect(is(bond, machine([standby, bond, vf]))).toBeUndefined();
    expect(is(vf, guest)).toBeUndefined();
  });

  it('is in use when an address is on any of its legs', () => {
    for (const { ifindex } of guest.links) {
      const addresses = [{ ifindex, family: 2, address: '10.0.0.5', scope: 0 }];
      expect(refusal({ ...guest, addresses }, {}).message).toContain('ens5 has the address 10.0.0.5');
      expect(() =>
        refuseToCut({ ...guest, defaultRoutes: [ifindex] }, choose(guest, { device: 'ens5' })),
      ).toThrow(/default route/);
    }
  });

  it('is listed as a pair with its driver, and its legs are not listed as cards', () => {
    expect(discover(guest)).toMatchObject([
      { kind: 'net_failover', driver: 'net_failover', netvsc: master, vf, standby, free: true, reason: '' },
    ]);
    expect(cards(guest)).toEqual([]);
  });
});

describe('one card alone', () => {
  const two = machine([
    link({ ifindex: 1, name: 'lo', type: 772 }),
    card(2),
    card(3, { altNames: ['data0'] }),
    link({ ifindex: 4, name: 'eno3.7', kind: 'vlan', peer: 3, address: card(3).address }),
    link({ ifindex: 5, name: 'veth0', kind: 'veth', address: '02:00:00:00:00:55' }),
  ]);

  it('is taken by any of its names, and is its own VF', () => {
    for (const device of ['eno3', 'data0', card(3).address, '0000:03:00.0']) {
      expect(chosen(two, { device })).toBe('card: eno3 eno3');
    }
    expect(chosen(two, { device: 'veth0' })).toBe('card: veth0 veth0');
  });

  it('is never taken without its name', () => {
    const { code, hint } = refusal(two, {});
    expect(code).toBe('ERR_NO_NETVSC');
    expect(hint).toContain('--device');
    expect(refusal(two, { netvsc: 'eno3' })).toMatchObject({
      code: 'ERR_DEVICE_NOT_NETVSC',
      hint: expect.stringContaining('--device eno3'),
    });
    expect(chosen(two, { netvsc: 'eno3', force: true })).toBe('stand-in: eno3 -');
  });

  it('is listed with the reason why it is not taken by itself; virtual devices are not', () => {
    const busy = { ...two, addresses: [{ ifindex: 4, family: 2, address: '10.0.0.3', scope: 0 }] };
    expect(discover(busy)).toEqual([]);
    expect(cards(busy).map(({ netvsc, free, reason }) => [netvsc.name, free, reason])).toEqual([
      ['eno2', false, 'is one card alone'],
      ['eno3', false, 'is one card alone, has the address 10.0.0.3'],
    ]);
  });

  it('with the default route is not cut off by mistake', () => {
    const home = { ...two, defaultRoutes: [4] };
    expect(() => refuseToCut(home, choose(home, { device: 'eno3' }))).toThrow(/default route/);
    expect(() => refuseToCut(home, choose(home, { device: 'eno2' }))).not.toThrow();
  });

  it('is refused when it is no Ethernet device, or a port of this process has it', () => {
    expect(refusal(two, { device: 'lo' })).toMatchObject({ code: 'ERR_OPTION_INVALID', device: 'device' });
    expect(refusal(two, { device: 'eno4' }).code).toBe('ERR_DEVICE_NOT_FOUND');
    expect(refusal(two, { device: 'eno3' }, new Set([3])).code).toBe('ERR_DEVICE_BUSY');
  });
});

/** What a person would say of a machine of which they know how it was built. */
interface Built {
  readonly kind: KindName;
  readonly upper: Link;
  readonly legs: readonly Link[];
}

const built = (kind: 'netvsc' | 'net_failover' | 'card', i: number, withVf: boolean): Built => {
  const first = 10 * (i + 1);
  const mac = `00:0d:3a:00:00:${first.toString(16).padStart(2, '0')}`;
  if (kind === 'card') {
    const upper = card(first, { address: mac });
    return { kind, upper, legs: [] };
  }
  const { master, standby, vf } = failover(first, mac);
  const vfs = withVf ? [vf] : [];
  if (kind === 'net_failover') return { kind, upper: master, legs: [standby, ...vfs] };
  const upper = { ...master, parentBus: 'vmbus', parentDevice: `unheard-of-${i}`, name: `eth${i}` };
  return { kind, upper, legs: vfs };
};

it('on any machine, each name of any device of a pair leads to that pair, and of a card to it alone', () => {
  const one = fc.tuple(
    fc.constantFrom('netvsc' as const, 'net_failover' as const, 'card' as const),
    fc.boolean(),
  );
  fc.assert(
    fc.property(fc.array(one, { maxLength: 6 }), fc.nat(), (parts, seed) => {
      const all = parts.map(([kind, withVf], i) => built(kind, i, withVf));
      const links = all.flatMap(({ upper, legs }) => [upper, ...legs]);
      const turn = links.length === 0 ? 0 : seed % links.length;
      const snapshot = machine([...links.slice(turn), ...links.slice(0, turn)]);
      for (const { kind, upper, legs } of all) {
        const vf = kind === 'card' ? upper : legs.find(({ parentBus }) => parentBus === 'pci');
        for (const { name } of [upper, ...legs]) {
          expect(choose(snapshot, { device: name })).toEqual(
            expect.objectContaining({ kind, netvsc: upper, vf }),
          );
        }
      }
      const pairs = all.filter(({ kind }) => kind !== 'card');
      expect(discover(snapshot).map(({ netvsc }) => netvsc.ifindex)).toEqual(
        pairs.map(({ upper }) => upper.ifindex),
      );
      expect(cards(snapshot)).toHaveLength(all.length - pairs.length);
    }),
  );
});
