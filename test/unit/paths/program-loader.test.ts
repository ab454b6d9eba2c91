/** Which program a VF gets for the metadata that its handler asks for, and what is said of those that it cannot give. */
import { describe, expect, it } from 'vitest';
import type { Bpf } from '../../../src/kernel/bpf.ts';
import type { kernelFunctionIds } from '../../../src/kernel/btf.ts';
import type { Link } from '../../../src/kernel/link.ts';
import { XDP_FUNCTIONS } from '../../../src/kernel/metadata-programs.ts';
import type { RxMetadata, XdpAbilities } from '../../../src/kernel/netdev-netlink.ts';
import { MetadataBit, ORDERED } from '../../../src/memory/metadata.ts';
import { ProgramLoader } from '../../../src/paths/af-xdp/program-loader.ts';

const IFINDEX = 7;
const link = { ifindex: IFINDEX, name: 'vf0' } as Link;
const maps = { map: 3, gate: 4, unclaimed: 5 };
const { TIME, HASH, CHECKSUM, RULE } = MetadataBit;

const bothFunctions: typeof kernelFunctionIds = () => ({
  ids: new Map([
    [XDP_FUNCTIONS.time, 1000],
    [XDP_FUNCTIONS.hash, 1001],
  ]),
});
const driver = (...rxMetadata: RxMetadata[]): XdpAbilities => ({
  ...{ native: true, zeroCopy: false, multiBuffer: false, rxMetadata, txMetadata: [] },
});

/** @param refuses whether the kernel refuses bound programs */
function loader(
  wanted: number,
  { abilities = driver('timestamp', 'hash'), ids = bothFunctions, refuses = false, reports = true } = {} as {
    abilities?: XdpAbilities | undefined;
    ids?: typeof kernelFunctionIds;
    refuses?: boolean;
    reports?: boolean;
  },
) {
  const loaded: { bound: number; bytes: number; calls: boolean[] }[] = [];
  const bpf: Pick<Bpf, 'load'> = {
    load(_type, _name, code, boundTo = 0) {
      if (refuses && boundTo > 0) throw new Error('the verifier does not know kfuncs');
      const hex = Buffer.from(code).toString('hex');
      // BPF_PSEUDO_KFUNC_CALL of each function.
      const calls = ['85200000e8030000', '85200000e9030000'].map((slot) => hex.includes(slot));
      loaded.push({ bound: boundTo, bytes: code.length, calls });
      return 9;
    },
  };
  const made = new ProgramLoader(bpf, { metadata: () => wanted, abilities: () => abilities }, ids, reports);
  return { made, loaded, first: () => made.first(maps, undefined, link) };
}

describe('the program of a VF', () => {
  it.each([
    ['nothing', 0],
    ['orders', ORDERED],
    ['what XDP never has', CHECKSUM],
  ])('is the same as ever for a handler that asks for %s, and asks the kernel nothing', (_, wanted) => {
    const plain = loader(0);
    plain.first();
    const asked = loader(wanted, { ids: () => expect.fail('BTF was read') });
    asked.first();
    expect(asked.loaded).toEqual(plain.loaded);
    expect(asked.made.held.functions).toBeUndefined();
  });

  it.each([
    ['both', TIME | HASH, IFINDEX, [true, true]],
    ['the time', TIME | RULE, IFINDEX, [true, false]],
    ['the hash', HASH, IFINDEX, [false, true]],
    ['the rule alone', RULE, 0, [false, false]],
  ] as const)(
    'calls the functions for %s, and is bound to its device only for them',
    (_, wanted, bound, calls) => {
      const { made, loaded, first } = loader(wanted);
      first();
      expect(loaded).toMatchObject([{ bound, calls }]);
      expect(made.isBound).toBe(bound > 0);
      expect(made.held.lacks).toEqual({});
      made.load(maps, undefined, link);
      expect(loaded[1]).toEqual(loaded[0]);
    },
  );

  it('calls a function of a driver that may have it, and none that it says it has not', () => {
    const { made, loaded, first } = loader(TIME | HASH | CHECKSUM, { abilities: driver('hash') });
    first();
    expect(loaded[0]!.calls).toEqual([false, true]);
    const checksum = expect.stringContaining('XDP has no function');
    expect(made.held.lacks).toEqual({ time: 'the driver of vf0 has none', checksum });
    const none = loader(TIME, { abilities: driver() });
    none.first();
    expect(none.made.held.lacks).toEqual({ time: 'the driver of vf0 has none' });
    expect(none.made.isBound).toBe(false);
    const silent = loader(TIME, { abilities: driver(), reports: false }); // before Linux 6.8
    silent.first();
    expect(silent.loaded[0]!.calls).toEqual([true, false]);
  });

  it.each<[string, Parameters<typeof loader>[1], RegExp]>([
    ['has no such functions', { ids: () => ({ ids: new Map() }) }, /^this kernel has no function/],
    ['has no BTF', { ids: () => ({ ids: new Map(), why: 'there is none' }) }, /^there is none$/],
    ['refuses the bound program', { refuses: true }, /does not know kfuncs/],
  ])('is one without them where the kernel %s, and the reason is kept', (_, options, why) => {
    const { made, loaded, first } = loader(TIME | RULE, options);
    first();
    expect(loaded).toMatchObject([{ bound: 0, calls: [false, false] }]);
    expect(made.held).toEqual({
      functions: { time: 0, hash: 0 },
      lacks: { time: expect.stringMatching(why) },
    });
    const withoutRule = loader(HASH, options);
    withoutRule.first();
    expect(withoutRule.made.held.functions).toBeUndefined();
  });

  it('is one without them on the generic hook, and stays so for other rules', () => {
    const { made, loaded, first } = loader(TIME | HASH | RULE);
    first();
    made.loadForGeneric(maps, undefined, link);
    made.load(maps, undefined, link);
    expect(loaded.map(({ bound }) => bound)).toEqual([IFINDEX, 0, 0]);
    const why = 'vf0 runs the generic hook, where no driver is asked';
    expect(made.held.lacks).toEqual({ time: why, hash: why });
    const next = loader(0);
    next.made.adopt(structuredClone(made.held));
    expect(next.made.held).toEqual(made.held);
  });
});
