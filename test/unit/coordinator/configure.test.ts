/** The configuration of several paths: on all of them, or as before on all of them. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CheckedChange, changed, initial, type PortConfiguration } from '../../../src/configuration.ts';
import { carryOut, configurePath } from '../../../src/coordinator/configure.ts';
import type { PortState } from '../../../src/coordinator/port-state.ts';
import type { WorkerConfiguration } from '../../../src/coordinator/queue-spread.ts';
import { newSlot, type Slot } from '../../../src/coordinator/slot.ts';
import { TwinpathError } from '../../../src/errors.ts';
import { PATH_NAMES, Path, type PathId } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import type { PathDevice } from '../../../src/paths/device.ts';
import { DEFAULT_RSS } from '../../../src/rss/configuration.ts';

const memory = Memory.create({
  ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
});

/** A port's paths, each of which accepts an MTU up to its own limit, and anything else. */
class Paths {
  readonly done: string[] = [];
  readonly errors: string[] = [];
  readonly has = new Map<PathId, PortConfiguration>();
  readonly state: PortState;
  owner: PathId = Path.VF;

  constructor(limits: Partial<Record<PathId, number>>) {
    const ownership = {
      setOwner: async (path: PathId, reason: string) => {
        this.done.push(`to ${PATH_NAMES[path]}: ${reason}`);
        this.owner = path;
      },
    };
    Object.defineProperty(ownership, 'owner', { get: () => this.owner });
    this.state = {
      ...{ memory, port: 0, closing: false, configuration: initial({}) },
      slots: ([Path.HOST, Path.SYNTHETIC, Path.VF] as const).map((path) => this.#slot(path, limits[path])),
      ownership,
      network: { device: 'memory0' },
      run: (_: string, work: () => void) => work(),
      save: () => this.done.push('save'),
      spread: async ({ queues }: WorkerConfiguration) => {
        this.done.push(`workers ${queues}`);
      },
      report: ({ kind, event }: { kind: string; event?: { code: string } }) => {
        if (kind === 'error') this.errors.push(event!.code);
      },
    } as unknown as PortState;
  }

  slot(path: PathId): Slot {
    return this.state.slots.find((slot) => slot.path === path)!;
  }

  change(change: CheckedChange): Promise<PortConfiguration> {
    return new Promise(
      (resolve, reject) => void carryOut(this.state, { change, resolve, reject }).catch(reject),
    );
  }

  #slot(path: PathId, limit: number | undefined): Slot {
    const slot = newSlot(memory, 0, path);
    if (limit === undefined) return slot;
    slot.ready = true;
    slot.device = {
      configure: (wanted: PortConfiguration) => {
        this.done.push(`${PATH_NAMES[path]} ${wanted.mtu}`);
        const refused = (wanted.mtu ?? 0) > limit;
        const mtu = refused ? (this.has.get(path)?.mtu ?? null) : wanted.mtu;
        this.has.set(path, { ...wanted, mtu });
        return refused ? [new TwinpathError('ERR_DEVICE_SETTINGS', { device: PATH_NAMES[path] })] : [];
      },
    } as unknown as PathDevice;
    return slot;
  }
}

describe('the MAC filter', () => {
  it('is refused where there is no kernel that could filter, and the rest of the change with it', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000 });
    await expect(paths.change({ mtu: 1400, macFilter: true })).rejects.toMatchObject({
      ...{ code: 'ERR_OPTION_INVALID', device: 'macFilter' },
    });
    expect(paths.state.configuration).toMatchObject({ generation: 0, mtu: null, macFilter: false });
  });

  it('accepts what is asked for before the devices are changed, and what was asked for before if one refuses', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000 });
    const macFilter = {
      widen: ({ unicast }: PortConfiguration) => paths.done.push(`widen ${unicast}`),
      set: ({ unicast }: PortConfiguration) => paths.done.push(`set ${unicast}`),
    };
    Object.assign(paths.state.network, { macFilter });
    const mac = '02:00:00:00:00:07';
    await paths.change({ unicast: [mac], macFilter: true });
    expect(paths.done.slice(0, 3)).toEqual([`widen ${mac}`, 'synthetic null', `set ${mac}`]);
    paths.done.length = 0;
    await expect(paths.change({ unicast: [], mtu: 3000 })).rejects.toMatchObject({
      code: 'ERR_DEVICE_SETTINGS',
    });
    expect(paths.done.filter((step) => /widen|set/.test(step))).toEqual(['widen ', `set ${mac}`]);
  });
});

describe('a change of the rules', () => {
  it('is refused where there is no kernel that could try them, and the rest of the change with it', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000 });
    await paths.change({ mtu: 1300 });
    await expect(paths.change({ mtu: 1400, rules: ['udp drop'] })).rejects.toThrow(
      'memory0 is no device of the kernel',
    );
    expect(paths.has.get(Path.SYNTHETIC)).toMatchObject({ mtu: 1300, rules: [] });
    expect(paths.state.configuration).toMatchObject({ generation: 1, mtu: 1300, rules: [] });
  });

  it('is undone together with the rest if a device refuses them', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 2000 });
    const exchanged: unknown[] = [];
    const refusal = new TwinpathError('ERR_KERNEL', { syscall: 'bpf(LINK_UPDATE, XDP)', errno: 12 });
    const rules = {
      exchange(given: unknown, devices: readonly unknown[]) {
        exchanged.push([given, devices.length]);
        if (exchanged.length === 2) throw refusal;
      },
    };
    Object.assign(paths.state.network, { rules });
    await paths.change({ isolate: true });
    await expect(paths.change({ mtu: 1400, rules: ['udp drop'] })).rejects.toBe(refusal);
    expect(exchanged).toEqual([
      [{ rules: [], otherwise: 'kernel' }, 2],
      [{ rules: ['udp drop'], otherwise: 'kernel' }, 2],
    ]);
    for (const path of [Path.SYNTHETIC, Path.VF])
      expect(paths.has.get(path)).toMatchObject({ mtu: null, rules: [] });
    expect(paths.state.configuration).toMatchObject({ generation: 1, rules: [], isolate: true });
  });
});

describe('a change', () => {
  it('reaches every open path, and the VF is left while it may reset itself', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 2000 });
    expect(await paths.change({ mtu: 1400 })).toMatchObject({ generation: 1, mtu: 1400 });
    expect(paths.done).toEqual(['to synthetic: configured', 'synthetic 1400', 'vf 1400', 'save']);
    paths.owner = Path.VF;
    paths.done.length = 0;
    await paths.change({ promiscuous: true });
    expect(paths.done).toEqual(['synthetic 1400', 'vf 1400', 'save']);
  });

  it('needs no VF, and does not leave the only path', async () => {
    const vfAlone = new Paths({ [Path.VF]: 2000 });
    await vfAlone.change({ mtu: 1400 });
    expect(vfAlone.done).toEqual(['vf 1400', 'save']);
    const broken = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 100 });
    broken.slot(Path.VF).broken = 'link gone';
    await broken.change({ mtu: 1400 });
    expect(broken.has.get(Path.VF)).toBeUndefined();
  });

  it('is refused while the port closes', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000 });
    paths.state.closing = true;
    await expect(paths.change({ mtu: 1400 })).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    expect(paths.done).toEqual([]);
  });

  it('is on all paths or on none, whatever came before', async () => {
    const limit = fc.integer({ min: 1000, max: 2000 });
    const mtus = fc.array(fc.integer({ min: 900, max: 2100 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(limit, limit, mtus, async (synthetic, vf, wanted) => {
        const paths = new Paths({ [Path.SYNTHETIC]: synthetic, [Path.VF]: vf });
        let now: number | null = null;
        for (const mtu of wanted) {
          const fits = mtu <= Math.min(synthetic, vf);
          const answer = paths.change({ mtu });
          if (fits) await answer;
          else await expect(answer).rejects.toMatchObject({ device: mtu > synthetic ? 'synthetic' : 'vf' });
          if (fits) now = mtu;
          expect(paths.state.configuration.mtu).toBe(now);
          for (const has of paths.has.values()) expect(has.mtu).toBe(now);
        }
        expect(paths.errors).toEqual([]);
      }),
    );
  });
});

describe('what a path has refused before', () => {
  it('keeps no other change from it, and is forgotten when the path takes it', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 1200 });
    paths.state.configuration = initial({ mtu: 1400 });
    configurePath(paths.state, paths.slot(Path.VF));
    expect(await paths.change({ promiscuous: true })).toMatchObject({ mtu: 1400, promiscuous: true });
    expect(paths.has.get(Path.VF)).toMatchObject({ mtu: null, promiscuous: true });
    expect(paths.slot(Path.VF).refusals).toHaveLength(1);
    await paths.change({ mtu: 1100 });
    expect(paths.slot(Path.VF).refusals).toEqual([]);
  });
});

describe('a change that another program has made', () => {
  it('stays, and what the VF refuses of it is reported', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 9000, [Path.VF]: 1500 });
    const followed = new Promise<PortConfiguration>((resolve, reject) => {
      const order = { change: { mtu: 1700 }, followed: true, resolve, reject };
      void carryOut(paths.state, order).catch(reject);
    });
    expect(await followed).toMatchObject({ mtu: 1700 });
    expect(paths.has.get(Path.SYNTHETIC)).toMatchObject({ mtu: 1700 });
    expect(paths.errors).toEqual(['ERR_DEVICE_SETTINGS']);
  });
});

describe('a path that opens', () => {
  it('gets the configuration, and what it refuses is reported and remembered until it is changed', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 1200 });
    paths.state.configuration = initial({ mtu: 1400, promiscuous: true });
    configurePath(paths.state, paths.slot(Path.VF));
    expect(paths.has.get(Path.VF)).toMatchObject({ mtu: null, promiscuous: true });
    expect([paths.errors, paths.slot(Path.VF).refusals.length]).toEqual([['ERR_DEVICE_SETTINGS'], 1]);
    await paths.change({ mtu: 1100 });
    expect(paths.slot(Path.VF).refusals).toEqual([]);
  });
});

describe('what workers carry out', () => {
  it('reaches them after the devices, and a stopped queue is taken out last', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 2000 });
    paths.slot(Path.VF).device!.stopQueues = () => paths.done.push('vf stops queues');
    await paths.change({ queues: [0, 2] });
    expect(paths.done).toEqual(['synthetic null', 'vf null', 'workers 0,2', 'vf stops queues', 'save']);
    expect(paths.has.get(Path.VF)).toMatchObject({ queues: [0, 2] });
  });

  it('does not reach them if a device refuses, and a change that is not theirs never does', async () => {
    const paths = new Paths({ [Path.SYNTHETIC]: 2000, [Path.VF]: 1300 });
    await paths.change({ queues: [1], rss: { key: 'ab'.repeat(40) } });
    paths.done.length = 0;
    await expect(paths.change({ mtu: 1400, queues: [0], rss: { key: null } })).rejects.toMatchObject({
      device: 'vf',
    });
    expect(paths.done.filter((what) => what.startsWith('workers'))).toEqual([]);
    for (const path of [Path.SYNTHETIC, Path.VF])
      expect(paths.has.get(path)).toMatchObject({ queues: [1], rss: { key: 'ab'.repeat(40), table: null } });
    paths.done.length = 0;
    await paths.change({ promiscuous: true });
    expect(paths.done).toEqual(['synthetic null', 'vf null', 'save']);
  });

  it('is changed in part, and set back by null', () => {
    const table = Array.from({ length: 128 }, () => 0);
    const first = initial({ rss: { key: 'ab'.repeat(40) }, mode: 'poll', started: false });
    const second = changed(first, { rss: { table } });
    expect(second).toMatchObject({ rss: { key: 'ab'.repeat(40), table, hashTypes: null }, mode: 'poll' });
    expect(changed(second, { rss: DEFAULT_RSS, mode: null })).toMatchObject({
      ...{ rss: { key: null, table: null, hashTypes: null }, mode: null, started: false },
    });
  });
});
