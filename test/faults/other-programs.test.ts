/** BPF programs that others have on the port's devices: which of them come before the port's, and what is said of them. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { check } from '../../dist/src/errors.js';
import { Bpf } from '../../dist/src/kernel/bpf.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { Unclaimed, xdpRedirect } from '../../dist/src/kernel/programs.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import {
  buildLab,
  expectUnharmed,
  type Lab,
  ownedBy,
  owners,
  passed,
  Scene,
  until,
} from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';
import { Station } from '../support/stations.ts';

const LINK_DETACH = 34;
const COUNT = new URL('../../dist/src/handlers/drop.js', import.meta.url);
/** r0 = 2; exit: TC_ACT_SHOT of tc, XDP_PASS of XDP. */
const TWO = Uint8Array.of(0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

const shim = loadShim();
const bpf = new Bpf(shim);

interface Other {
  readonly id: number;
  /** Its descriptor stays: what a scene finds open at its beginning is to be there at its end. */
  readonly detach: () => void;
  readonly close: () => void;
}

function attach(lab: Lab, type: 'xdp' | 'sched_cls', device: string): Other {
  const { ifindex } = linkIn(lab.guest, device)!;
  const program = bpf.load(type, 'other', TWO);
  const { id } = bpf.programInfo(program);
  const link = inNamespace(shim, lab.guest, () =>
    type === 'xdp' ? bpf.attachXdp(program, ifindex, 'generic') : bpf.attachTcx(program, ifindex, 'ingress'),
  );
  shim.close(program);
  let open = check(link, 'bpf(LINK_CREATE)') >= 0;
  const close = (): void => {
    if (open) shim.close(link);
    open = false;
  };
  onTestFinished(close);
  const detach = (): void =>
    void check(shim.bpf(LINK_DETACH, new Uint32Array([link]), 4), 'bpf(LINK_DETACH)');
  return { id, detach, close };
}

describe('a tcx program that was at the NetVSC before the port', () => {
  it('sees nothing that comes by the synthetic path, as it sees nothing by the VF', async () => {
    const lab = await buildLab();
    const other = attach(lab, 'sched_cls', lab.nic.netvsc); // it drops all that it sees
    const scene = await Scene.openIn(lab);
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    await scene.unplug();
    await passed(traffic);
    const { ifindex } = linkIn(lab.guest, lab.nic.netvsc)!;
    const order = inNamespace(shim, lab.guest, () => bpf.tcxPrograms(ifindex, 'ingress'));
    expect(order.indexOf(other.id)).toBe(1);
    other.detach();
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it('runs first if that is ordered, and is reported', async () => {
    const lab = await buildLab();
    const other = attach(lab, 'sched_cls', lab.nic.netvsc);
    const outside = await Station.start(lab.outside);
    const scene = await Scene.openIn(lab, { handler: COUNT, handlerOptions: {}, redirectOrder: 'last' });
    await until('the report', () => scene.errors.length > 0);
    expect(scene.errors.splice(0)).toMatchObject([
      {
        code: 'ERR_DEVICE_CHANGED',
        detail: expect.stringContaining(`tcx program ${other.id} has come before`),
      },
    ]);
    await outside.call('datagrams', lab.nic.guestAddress, 7, 20, 100);
    other.detach();
    await outside.call('datagrams', lab.nic.guestAddress, 7, 30, 100);
    await until('those that came behind it', () => scene.port.stats().received >= 30);
    expect(scene.port.stats().received).toBe(30);
    await scene.finish();
  });
});

describe('an XDP program on the NetVSC', () => {
  it('is named when it keeps the port’s from the VF, and the VF serves when it has gone', async () => {
    const lab = await buildLab({ standIn: 'bridge' });
    const { netvsc } = lab.nic;
    await lab.nic.plug(); // a VF that comes later may be opened before it joins
    const other = attach(lab, 'xdp', netvsc);
    const scene = await Scene.openIn(lab);
    await until('the report', () => scene.errors.some(({ code }) => code === 'ERR_DEVICE_BUSY'));
    expect(scene.errors.find(({ code }) => code === 'ERR_DEVICE_BUSY')).toMatchObject({
      device: scene.nic.vf,
      detail: `XDP program ${other.id} is attached to ${netvsc} above it`,
      hint: expect.stringContaining(`ip link set ${netvsc} xdp off`),
    });
    expect(owners(scene.port).every((owner) => owner === 'synthetic')).toBe(true);
    other.detach();
    await ownedBy(scene.port, 'vf');
    scene.errors.length = 0;
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it('that came later and has gone leaves the port’s at the VF', async () => {
    const scene = await Scene.open({ lab: { standIn: 'bridge' } });
    const traffic = await scene.drive();
    await scene.plug();
    const other = attach(scene.lab, 'xdp', scene.nic.netvsc);
    const told = (words: string) => () => scene.errors.some(({ detail }) => detail?.includes(words));
    await until('what it takes is told', told(`XDP program ${other.id} is attached to it`));
    other.close();
    await until(
      'the repair',
      told(`an XDP program of ${scene.nic.netvsc} had taken the place of ours; repaired`),
    );
    const { rxPackets } = scene.port.stats().paths.vf;
    await passed(traffic);
    await until('packets by the VF', () => scene.port.stats().paths.vf.rxPackets > rxPackets + 100);
    await scene.unplug();
    scene.errors.length = 0;
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

describe('a port', () => {
  it('leaves a VF alone that another XDP program holds, says so once, and takes it when that is gone', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    const map = bpf.xskMap(1);
    const [gate, count] = [bpf.valueMap(), bpf.valueMap()];
    bpf.setValue(gate, Unclaimed.PASS);
    const program = bpf.load('xdp', 'foreign', xdpRedirect(map, gate, count));
    const foreign = inNamespace(shim, lab.guest, () =>
      bpf.attachXdp(program, linkIn(lab.guest, 'vf0')!.ifindex, 'native'),
    );
    expect(foreign).toBeGreaterThan(0);
    const scene = await Scene.openIn(lab);
    await ownedBy(scene.port, 'synthetic');
    await until('an error', () => scene.errors.length > 0);
    expect(scene.errors[0]).toMatchObject({ code: 'ERR_DEVICE_BUSY', device: 'vf0' });
    expect(scene.errors[0]!.message).toMatch(/XDP program/);
    expect(scene.paths.vf).toBeUndefined();
    const traffic = await scene.drive();
    await passed(traffic, 6000); // time for several tries
    expect(scene.errors).toHaveLength(1);

    shim.bpf(LINK_DETACH, new Int32Array([foreign]), 4); // its descriptor stays until the end
    await ownedBy(scene.port, 'vf');
    await lab.nic.moveDataPath('vf');
    await passed(traffic);
    expect(scene.paths.vf).toMatchObject({ device: 'vf0', mode: 'native copy' });
    const [report] = await scene.finish();
    expectUnharmed(report!);
    for (const fd of [foreign, program, map, gate, count]) shim.close(fd);
  });
});

it('a VF that sends, and to which the host delivers nothing, is told to be bypassed', async () => {
  const scene = await Scene.open();
  await scene.drive({ rate: 2000 });
  await scene.nic.plug();
  await ownedBy(scene.port, 'vf'); // the host's data path stays where it is
  await until('the news', () => scene.news.some(({ state }) => state === 'bypassed'));
  expect(scene.news.filter(({ state }) => state === 'bypassed')).toMatchObject([
    { path: 'vf', device: scene.nic.vf, detail: expect.stringContaining('has received nothing while') },
  ]);
  await scene.unplug();
  await scene.finish();
  expect(scene.errors).toEqual([]);
});
