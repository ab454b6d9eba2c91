/**
 * Other programs alter what a port has set up: it notices without traffic, repairs it, says so, and the machine's
 * traffic goes on. Inline, so that each packet and its answer meet both taps and all four programs.
 */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { Bpf } from '../../dist/src/kernel/bpf.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { type LinkChange, RtNetlink } from '../../dist/src/kernel/rtnetlink.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { detach } from '../support/detach.ts';
import { addsUp, buildLab, type Lab, owners, passed, Scene, until } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';
import { Station } from '../support/stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
/** r0 = -1; exit: on with the next program. */
const NEXT = Uint8Array.of(0xb4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0);
/** r0 = 2; exit: the packet is dropped. */
const SHOT = Uint8Array.of(0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
/** Where a port's filters are: paths/tc-filter.ts. */
const [HANDLE, PRIORITY] = [0x7457, 0x7457];
const TAPS = ['twinpath0', 'twinhost0'] as const;
const REDIRECTS = ['tcx', 'clsact'] as const;

const run = (command: string, lab: Lab): void =>
  void execFileSync(command.split(' ')[0]!, ['-n', lab.guest, ...command.split(' ').slice(1)]);

function inGuest<Result>(lab: Lab, work: (netlink: RtNetlink) => Result): Result {
  const shim = loadShim();
  return inNamespace(shim, lab.guest, () => {
    const netlink = RtNetlink.open(shim);
    try {
      return work(netlink);
    } finally {
      netlink.close();
    }
  });
}

const alter = (lab: Lab, device: string, change: LinkChange): void =>
  inGuest(lab, (netlink) => netlink.setLink(netlink.link(device)!.ifindex, change));

/** A filter that does nothing, of a kind that this kernel has. Returns the kind. */
function addFilter(lab: Lab, device: string): string {
  const kinds = { matchall: '', u32: 'match u32 0 0xffffffff flowid 1:1', flower: 'action continue' };
  for (const [kind, rest] of Object.entries(kinds)) {
    const words = `tc filter add dev ${device} ingress prio 7 protocol arp ${kind} ${rest}`.trim();
    try {
      execFileSync('tc', ['-n', lab.guest, ...words.split(' ').slice(1)], { stdio: 'ignore' });
      return kind;
    } catch {
      // This kernel was built without it.
    }
  }
  const shim = loadShim();
  const program = new Bpf(shim).load('sched_cls', 'nothing', NEXT);
  inGuest(lab, (netlink) => {
    netlink.addBpfFilter(netlink.link(device)!.ifindex, 'ingress', program, 'nothing', 1, 7);
  });
  shim.close(program);
  return 'bpf';
}

/** A port under which the machine goes on, and a station outside that asks it. */
class Ground {
  readonly lab: Lab;
  readonly scene: Scene;
  readonly #outside: Station;

  private constructor(lab: Lab, scene: Scene, outside: Station) {
    this.lab = lab;
    this.scene = scene;
    this.#outside = outside;
  }

  static async prepare(redirect: (typeof REDIRECTS)[number]): Promise<Ground> {
    const lab = await buildLab();
    await Station.start(lab.guest);
    const outside = await Station.start(lab.outside);
    const scene = await Scene.openIn(lab, { handler: HOST, handlerOptions: {}, host: 'inline', redirect });
    const ground = new Ground(lab, scene, outside);
    await ground.answers();
    return ground;
  }

  /** The machine answers, and everything it is asked and answers goes through the port. */
  async answers(): Promise<void> {
    const { port } = this.scene;
    // A path that has just come is told of before what the machine sends goes through it.
    await until('questions and answers through the port', async () => {
      const { passed, fromHost } = port.stats();
      expect(await this.#outside.call('ask', this.lab.nic.guestAddress, 3)).toEqual({ asked: 3, wrong: 0 });
      return port.stats().passed >= passed + 3 && port.stats().fromHost >= fromHost + 3;
    });
  }

  /** The port says once that this has happened to the device. */
  async told(device: string, words: string): Promise<void> {
    const { errors } = this.scene;
    await until(`"${words}" of ${device}`, () => errors.length > 0);
    expect(errors.map(({ code, device, detail }) => ({ code, device, detail }))).toEqual([
      { code: 'ERR_DEVICE_CHANGED', device, detail: expect.stringContaining(words) },
    ]);
    errors.length = 0;
  }

  async finish(): Promise<void> {
    const { scene } = this;
    await scene.whole();
    await addsUp(scene.port);
    await scene.close();
    expect(scene.errors).toEqual([]);
  }
}

describe.each(REDIRECTS)('a port redirected by %s', (redirect) => {
  it('repairs every change of its taps, reports it, and goes on', async () => {
    const ground = await Ground.prepare(redirect);
    const { lab } = ground;
    run('ip link add bridge0 type bridge', lab);
    const bridge = linkIn(lab.guest, 'bridge0')!.ifindex;
    for (const tap of TAPS) {
      const now = () => linkIn(lab.guest, tap)!;
      const sound = now();
      const changes: readonly [LinkChange, string, (keyof typeof sound)[]][] = [
        [{ up: false }, 'it was set down', ['flags']],
        [{ master: bridge }, 'it was put under another device', ['master']],
        [{ txQueueLength: 1 }, 'its queue was given another length', ['txQueueLength']],
        [{ carrier: false }, 'its carrier was taken', ['carrier']],
      ];
      for (const [change, words, fields] of changes) {
        alter(lab, tap, change);
        await ground.told(tap, words);
        for (const field of fields) expect(now()[field]).toEqual(sound[field]);
        await ground.answers();
      }
      run(`tc qdisc replace dev ${tap} root pfifo limit 1`, lab);
      await ground.told(tap, 'its queueing discipline was changed');
      inGuest(lab, (netlink) => expect(netlink.isNoqueue(sound.ifindex)).toBe(true));
      await ground.answers();
    }
    expect(ground.scene.news.filter(({ state }) => state !== 'up')).toEqual([]);
    await ground.finish();
  });

  it('takes no notice of another name or MTU of its taps', async () => {
    const ground = await Ground.prepare(redirect);
    for (const tap of TAPS) alter(ground.lab, tap, { mtu: 100, name: `not${tap}` });
    await ground.answers();
    for (const tap of TAPS) alter(ground.lab, `not${tap}`, { up: false });
    await until('two reports', () => ground.scene.errors.length === 2);
    const devices = ground.scene.errors.splice(0).map(({ device }) => device);
    expect(devices.toSorted()).toEqual(['nottwinhost0', 'nottwinpath0']);
    await ground.answers();
    await ground.finish();
  });

  it.each(TAPS)('makes another %s when it is deleted, or moved to another namespace', async (tap) => {
    const ground = await Ground.prepare(redirect);
    const { lab, scene } = ground;
    const path = tap === 'twinpath0' ? 'synthetic' : 'host';
    for (const words of [`link del ${tap}`, `link set ${tap} netns ${lab.outside}`]) {
      scene.news.length = 0;
      run(`ip ${words}`, lab);
      await ground.told(tap, 'it was deleted, or moved to another network namespace');
      await until('the path back', () => scene.news.some((one) => one.path === path && one.state === 'up'));
      expect(linkIn(lab.outside, tap)).toBeUndefined();
      await ground.answers();
    }
    await ground.finish();
  });

  it('takes the NetVSC back up with all that is its own when that was set down and up', async () => {
    const ground = await Ground.prepare(redirect);
    run(`ip link set ${ground.lab.nic.netvsc} down`, ground.lab);
    await until('the path down', () => ground.scene.news.some(({ state }) => state === 'down'));
    run(`ip link set ${ground.lab.nic.netvsc} up`, ground.lab);
    const { netvsc, outsideAddress } = ground.lab.nic;
    await until('the path up', () => owners(ground.scene.port).every((owner) => owner === 'synthetic'));
    const mac = linkIn(ground.lab.outside, 'u0')!.address;
    run(`ip neigh replace ${outsideAddress} lladdr ${mac} dev ${netvsc} nud permanent`, ground.lab);
    await ground.answers();
    await ground.finish();
  });
});

it('attaches each of its tcx programs again when it was detached by force', async () => {
  const ground = await Ground.prepare('tcx');
  const { netvsc } = ground.lab.nic;
  for (const [device, where] of [
    ['twinpath0', 'ingress'],
    [netvsc, 'ingress'],
    ['twinhost0', 'ingress'],
    [netvsc, 'egress'],
  ] as const) {
    detach(ground.lab, device, 'tcx', where);
    await ground.told(device, `its ${where} program was detached`);
    await ground.answers();
  }
  run(`tc qdisc add dev ${netvsc} clsact`, ground.lab);
  run(`tc qdisc del dev ${netvsc} clsact`, ground.lab);
  await ground.answers();
  await ground.finish();
});

it('puts each of its filters back when it, or all there is at that place, was removed or replaced', async () => {
  const ground = await Ground.prepare('clsact');
  const { lab, scene } = ground;
  const { netvsc } = lab.nic;
  for (const [device, where] of [
    ['twinpath0', 'ingress'],
    [netvsc, 'ingress'],
    ['twinhost0', 'ingress'],
    [netvsc, 'egress'],
  ] as const) {
    run(`tc filter del dev ${device} ${where}`, lab);
    await ground.told(device, `its ${where} filter was removed`);
    await ground.answers();
    const shim = loadShim();
    const program = new Bpf(shim).load('sched_cls', 'shot', SHOT);
    inGuest(lab, (netlink) => {
      const { ifindex } = netlink.link(device)!;
      netlink.addBpfFilter(ifindex, where, program, 'shot', HANDLE, PRIORITY);
    });
    shim.close(program);
    await ground.told(device, `its ${where} filter was replaced`);
    await ground.answers();
  }
  run(`tc qdisc del dev ${netvsc} clsact`, lab);
  await until('both repaired', () => scene.errors.length === 2);
  expect(
    scene.errors
      .splice(0)
      .map(({ detail }) => detail)
      .toSorted(),
  ).toEqual([
    expect.stringContaining('its egress filter was removed; repaired'),
    expect.stringContaining('its ingress filter was removed; repaired'),
  ]);
  await ground.answers();
  await ground.finish();
});

describe('what others put before its programs', () => {
  it('is told, when it is a filter of any kind, and left where it is, at the end too', async () => {
    const ground = await Ground.prepare('clsact');
    const { lab } = ground;
    const { netvsc } = lab.nic;
    const kind = addFilter(lab, netvsc);
    await ground.told(netvsc, `${kind} filter of priority 7`);
    await ground.answers();
    await ground.scene.whole();
    await addsUp(ground.scene.port);
    await ground.scene.port.close();
    expect(ground.scene.errors).toEqual([]);
    const left = inGuest(lab, (netlink) => netlink.filters(netlink.link(netvsc)!.ifindex, 'ingress'));
    expect(new Set(left.map((filter) => `${filter.kind} ${filter.priority}`))).toEqual(
      new Set([`${kind} 7`]),
    );
  });

  it('is told, when it is a tcx program', async () => {
    const ground = await Ground.prepare('tcx');
    const { lab } = ground;
    const shim = loadShim();
    const program = new Bpf(shim).load('sched_cls', 'first', NEXT);
    const attributes = new DataView(new ArrayBuffer(32));
    attributes.setUint32(0, program, true);
    attributes.setUint32(4, linkIn(lab.guest, lab.nic.netvsc)!.ifindex, true);
    attributes.setUint32(8, 46, true); // BPF_TCX_INGRESS
    attributes.setUint32(12, 1 << 3, true); // BPF_F_BEFORE
    const link = inNamespace(shim, lab.guest, () => shim.bpf(28, attributes, 32));
    expect(link).toBeGreaterThan(0);
    await ground.told(lab.nic.netvsc, 'tcx program');
    await ground.answers();
    shim.close(link);
    shim.close(program);
    await ground.finish();
  });
});

it('attaches its XDP program to the VF again when it was detached by force', async () => {
  const scene = await Scene.open();
  const traffic = await scene.drive();
  await scene.plug();
  detach(scene.lab, scene.nic.vf!, 'xdp');
  await until('the report', () => scene.errors.length > 0);
  expect(scene.errors.splice(0)).toMatchObject([
    {
      code: 'ERR_DEVICE_CHANGED',
      device: scene.nic.vf,
      detail: expect.stringContaining('XDP program was detached'),
    },
  ]);
  await passed(traffic);
  expect(owners(scene.port).every((owner) => owner === 'vf')).toBe(true);
  const { rxPackets } = scene.port.stats().paths.vf;
  await until('packets by the VF', () => scene.port.stats().paths.vf.rxPackets > rxPackets + 100);
  await scene.unplug();
  await scene.finish();
  expect(scene.errors).toEqual([]);
});

it('leaves a VF whose XDP hook another program has taken, says so, and takes it back when that has gone', async () => {
  const scene = await Scene.open();
  const traffic = await scene.drive();
  await scene.plug();
  await scene.nic.moveDataPath('synthetic');
  const shim = loadShim();
  const bpf = new Bpf(shim);
  const pass = Uint8Array.of(0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  const program = bpf.load('xdp', 'other', pass);
  const { ifindex } = linkIn(scene.lab.guest, scene.nic.vf!)!;
  const other = inNamespace(shim, scene.lab.guest, () => {
    detach(scene.lab, scene.nic.vf!, 'xdp');
    return bpf.attachXdp(program, ifindex, 'native');
  });
  expect(other).toBeGreaterThan(0);
  await until('the VF left', () => owners(scene.port).every((owner) => owner === 'synthetic'));
  expect(scene.errors[0]).toMatchObject({ code: 'ERR_DEVICE_BUSY', device: scene.nic.vf });
  await passed(traffic);
  shim.close(other);
  shim.close(program);
  await until('the VF back', () => owners(scene.port).every((owner) => owner === 'vf'));
  await scene.nic.moveDataPath('vf');
  await passed(traffic);
  await scene.unplug();
  scene.errors.length = 0;
  await scene.finish();
  expect(scene.errors).toEqual([]);
});

it('gives way to a program that sets its tap down again and again, and says so ever more rarely', async () => {
  const ground = await Ground.prepare('tcx');
  const { lab, scene } = ground;
  const stop = inGuest(lab, (netlink) => netlink.link('twinpath0')!.ifindex);
  const netlink = inNamespace(loadShim(), lab.guest, () => RtNetlink.open(loadShim()));
  let downs = 0;
  const fight = setInterval(() => {
    if ((netlink.link(stop)!.flags & 1) === 0) return;
    netlink.setLink(stop, { up: false });
    downs++;
  }, 1);
  try {
    await until('four repairs told', () =>
      scene.errors.some(({ detail }) => detail?.includes('4 times now')),
    );
  } finally {
    clearInterval(fight);
    netlink.close();
  }
  expect(downs).toBeLessThanOrEqual(5);
  expect(scene.errors).toHaveLength(3);
  await until('it up', () => ((linkIn(lab.guest, 'twinpath0')?.flags ?? 0) & 1) === 1);
  scene.errors.length = 0;
  await ground.answers();
  await scene.close();
});
