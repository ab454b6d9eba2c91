import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findVf, isVfOf, type PairingRules } from '../../../src/coordinator/pairing.ts';
import { azure, azureSysfs, link } from '../../support/machine.ts';

const rules = (change: Partial<PairingRules> = {}): PairingRules => ({
  forced: false,
  sysfs: azureSysfs,
  ours: new Set(),
  ...change,
});
const MAC = '00:0d:3a:44:55:00';

describe('on Azure', () => {
  const { links } = azure('mlx5');
  const [, eth0, eth1, vf] = links as [never, (typeof links)[0], (typeof links)[0], (typeof links)[0]];

  it('the VF is the link whose master is the NetVSC', () => {
    expect(findVf(eth1, links, rules())).toBe(vf);
    expect(findVf(eth0, links, rules())).toBeUndefined();
  });

  it('the VF is found by its permanent MAC before it has joined, under any name', () => {
    const early = azure('mlx5-before-join').links;
    expect(findVf(early[2]!, early, rules())?.name).toBe('eth2');
  });

  it('two MANA ports on one PCI function go to two NetVSCs, joined or not', () => {
    const mana = azure('mana').links;
    for (const joined of [true, false]) {
      const all = mana.map((one) => (joined ? one : { ...one, master: 0 }));
      expect(findVf(all[1]!, all, rules())?.name).toBe('enP30832s1');
      expect(findVf(all[2]!, all, rules())?.name).toBe('enP30832s1d1');
    }
  });

  it('the order of the links changes nothing', () => {
    const twins = [
      ...links,
      link({
        ifindex: 20,
        name: 'perm',
        address: MAC,
        permanentAddress: MAC,
        parentBus: 'pci',
        parentDevice: 'x',
      }),
      link({ ifindex: 21, name: 'current', address: MAC, parentBus: 'pci', parentDevice: 'y' }),
      link({ ifindex: 22, name: 'current2', address: MAC, parentBus: 'pci', parentDevice: 'z' }),
    ];
    const without = (...names: string[]) => twins.filter(({ name }) => !names.includes(name));
    const expected = [
      [twins, 'enP45159s2np0'],
      [without('enP45159s2np0'), 'perm'],
      [without('enP45159s2np0', 'perm'), 'current'],
      [without('enP45159s2np0', 'perm', 'current'), 'current2'],
    ] as const;
    for (const [candidates, name] of expected) {
      fc.assert(
        fc.property(fc.shuffledSubarray(candidates, { minLength: candidates.length }), (shuffled) => {
          expect(findVf(eth1, shuffled, rules())?.name).toBe(name);
        }),
        { numRuns: 20 },
      );
    }
  });

  it('a link is not the VF when it is the NetVSC, another NetVSC, ours, not Ethernet or in other hands', () => {
    expect(isVfOf(eth1, eth1, rules())).toBe(false);
    expect(isVfOf(eth1, { ...eth0, address: MAC, permanentAddress: MAC }, rules())).toBe(false);
    expect(isVfOf(eth1, vf, rules({ ours: new Set([vf.ifindex]) }))).toBe(false);
    expect(isVfOf(eth1, { ...vf, type: 32 }, rules())).toBe(false);
    expect(isVfOf(eth1, { ...vf, master: 77 }, rules())).toBe(false);
  });

  it('a permanent MAC is preferred to the current one, unless it is all zeros', () => {
    const free = { ...vf, master: 0 };
    expect(isVfOf(eth1, { ...free, address: '02:00:00:00:00:01' }, rules())).toBe(true);
    expect(isVfOf(eth1, { ...free, permanentAddress: '02:00:00:00:00:01' }, rules())).toBe(false);
    expect(isVfOf(eth1, { ...free, permanentAddress: '00:00:00:00:00:00' }, rules())).toBe(true);
    const zero = { ...eth1, address: '00:00:00:00:00:00', permanentAddress: '' };
    expect(isVfOf(zero, { ...free, address: '00:00:00:00:00:00', permanentAddress: '' }, rules())).toBe(
      false,
    );
  });

  it('hardware on another bus than PCI is no VF by its MAC', () => {
    const usb = { ...vf, master: 0, parentBus: 'usb', parentDevice: '1-1' };
    expect(isVfOf(eth1, usb, rules())).toBe(false);
  });

  it('the bus comes from sysfs when rtnetlink does not say', () => {
    const old = { ...vf, master: 0, parentBus: '', parentDevice: '' };
    expect(isVfOf(eth1, old, rules())).toBe(true);
    expect(isVfOf(eth1, { ...old, name: 'gone' }, rules())).toBe(false);
  });

  it.each(['vlan', 'macvlan', 'macvtap', 'ipvlan', 'bond', 'bridge', 'tun', 'team', 'dummy', 'vxlan'])(
    'a %s with the same MAC is no VF, forced or not',
    (kind) => {
      const copy = link({ ifindex: 30, name: 'copy', kind, address: MAC });
      for (const forced of [false, true]) expect(isVfOf(eth1, copy, rules({ forced }))).toBe(false);
    },
  );
});

describe('in a lab', () => {
  const forced = rules({ forced: true });
  const veth = (ifindex: number, name: string, address: string, master = 0) =>
    link({ ifindex, name, kind: 'veth', address, master });

  it('a veth is the VF of a stand-in with the same MAC, but only where force was asked for', () => {
    const standIn = veth(2, 'eth0', MAC);
    const vf = veth(3, 'vf0', MAC);
    expect(findVf(standIn, [standIn, vf], forced)).toBe(vf);
    expect(findVf(standIn, [standIn, vf], rules())).toBeUndefined();
  });

  it('stays the VF when the MAC of either is changed first, and another device with the MAC comes before it', () => {
    const NEW = '02:00:00:00:00:77';
    const [standIn, vf] = [veth(2, 'eth0', MAC), veth(3, 'vf0', MAC)];
    const had = rules({ forced: true, addresses: [MAC], incumbent: 3 });
    for (const [one, other] of [
      [NEW, MAC],
      [MAC, NEW],
      [NEW, NEW],
    ] as const) {
      const links = [
        { ...standIn, address: one },
        { ...vf, address: other },
      ];
      expect(findVf(links[0]!, links, had)?.ifindex).toBe(3);
    }
    const changed = [standIn, { ...vf, address: NEW }];
    expect(findVf(standIn, changed, forced)).toBeUndefined();
    expect(findVf(standIn, [...changed, veth(9, 'vf1', MAC)], had)?.ifindex).toBe(9);
    expect(findVf(standIn, [standIn, { ...vf, address: NEW, master: 8 }], had)).toBeUndefined();
  });

  it('a bridge whose MAC is changed keeps the VF that still has the old one', () => {
    const bridge = link({ ifindex: 2, name: 'eth0', kind: 'bridge', address: '02:00:00:00:00:77' });
    const [synthetic, vf] = [veth(3, 'syn0', '02:00:00:00:00:03', 2), veth(4, 'vf0', MAC, 2)];
    expect(findVf(bridge, [bridge, synthetic, vf], { ...forced, addresses: [MAC] })).toBe(vf);
    expect(findVf(bridge, [bridge, synthetic, vf], forced)).toBeUndefined();
  });

  it('of the ports of a bridge the VF is the one with the MAC of the bridge', () => {
    const bridge = link({ ifindex: 2, name: 'eth0', kind: 'bridge', address: MAC });
    const synthetic = veth(3, 'syn0', '02:00:00:00:00:03', 2);
    const vf = veth(4, 'vf0', MAC, 2);
    expect(findVf(bridge, [bridge, synthetic, vf], forced)).toBe(vf);
    expect(isVfOf(bridge, synthetic, forced)).toBe(false);
    expect(findVf(bridge, [bridge, synthetic, { ...vf, master: 0 }], forced)?.ifindex).toBe(4);
  });
});
