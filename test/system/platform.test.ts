/**
 * `protect: 'platform'`: what a machine on Azure must not lose goes round the handler. That the programs tell just those
 * packets, the kernel's own test run of a program shows; that they reach the machine by either path, a lab.
 */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Bpf } from '../../dist/src/kernel/bpf.js';
import { tcCapture, tcCaptureWhilePresent, Unclaimed, xdpRedirect } from '../../dist/src/kernel/programs.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { addsUp, buildLab, type Lab, ownedBy, Scene, until } from '../support/harness.ts';
import { Station } from '../support/stations.ts';

const DROP = new URL('../../dist/src/handlers/drop.js', import.meta.url);
const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const PLATFORM = ['168.63.129.16', '169.254.169.254'];

const shim = loadShim();
const bpf = new Bpf(shim);

const run = (program: number, frame: Uint8Array): number => bpf.testRun(program, frame).result;

function own(fd: number): number {
  onTestFinished(() => void shim.close(fd));
  return fd;
}

/** Newer kernels give no test run of a tc program a frame whose IP header is cut off. */
const MIN_SKB = 54;

/** Each program with protection, and what it answers to a packet that it keeps from the kernel, and to one that it does not. */
function programs(protect: boolean): { name: string; fd: number; taken: number; left: number }[] {
  const [map, gate, count] = [own(bpf.xskMap(1)), own(bpf.valueMap()), own(bpf.valueMap())];
  bpf.setValue(gate, Unclaimed.DROP);
  const load = (type: 'xdp' | 'sched_cls', code: Uint8Array): number => own(bpf.load(type, 'tp_test', code));
  // bpf_clone_redirect to the loopback device succeeds; TC_ACT_REDIRECT is 7, TC_ACT_STOLEN 4.
  return [
    { name: 'xdp', fd: load('xdp', xdpRedirect(map, gate, count, { protect })), taken: 1, left: 2 },
    { name: 'tcx', fd: load('sched_cls', tcCapture(1, { protect })), taken: 7, left: -1 },
    { name: 'filter', fd: load('sched_cls', tcCaptureWhilePresent(1, { protect })), taken: 4, left: -1 },
  ];
}

interface Fields {
  readonly tag: boolean;
  readonly type: number;
  readonly source: string;
  readonly target: string;
  readonly protocol: number;
  readonly fragment: number;
  readonly options: number;
  readonly from: number;
  readonly to: number;
  readonly operation: number;
  readonly bytes: number;
}

const fields = fc.record<Fields>({
  tag: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  type: fc.constantFrom(0x0800, 0x0800, 0x86dd, 0x0806, 0x88cc),
  source: fc.constantFrom('10.0.0.4', '168.63.129.17', '169.254.169.253', ...PLATFORM),
  target: fc.constantFrom('10.0.0.4', '10.0.0.4', '255.255.255.255', ...PLATFORM),
  protocol: fc.constantFrom(17, 17, 6, 1),
  fragment: fc.constantFrom(0, 0, 0, 0x2000, 0x4000, 1, 0x2001),
  options: fc.constantFrom(0, 0, 4, 40),
  from: fc.constantFrom(66, 67, 68, 69, 546, 547, 5000, 0x4300),
  to: fc.constantFrom(66, 67, 68, 69, 546, 547, 5000, 0x4400),
  operation: fc.constantFrom(1, 2, 3),
  bytes: fc.integer({ min: 14, max: 130 }),
});

/** A frame of these fields, cut off where `bytes` says. */
function frame({ tag, type, source, target, protocol, fragment, options, ...rest }: Fields): Uint8Array {
  const start = tag ? 18 : 14;
  const bytes = new Uint8Array(160);
  const view = new DataView(bytes.buffer);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  if (tag) view.setUint32(12, 0x8100_0007);
  view.setUint16(start - 2, type);
  const address = (text: string, at: number): void => bytes.set(text.split('.').map(Number), at);
  let ports = start + 40;
  if (type === 0x0800) {
    bytes[start] = 0x45 + options / 4;
    view.setUint16(start + 6, fragment);
    bytes[start + 9] = protocol;
    address(source, start + 12);
    address(target, start + 16);
    ports = start + 20 + options;
  } else if (type === 0x0806) {
    view.setUint16(start + 6, rest.operation);
  } else bytes[start + 6] = protocol;
  if (type !== 0x0806) {
    view.setUint16(ports, rest.from);
    view.setUint16(ports + 2, rest.to);
  }
  return bytes.slice(0, rest.bytes);
}

function isPlatform(fields: Fields): boolean {
  const { tag, type, source, target, protocol, fragment, options, from, to, operation, bytes } = fields;
  if (tag || bytes < 34) return false;
  if (type === 0x0806) return operation === 2;
  if (type === 0x86dd) return bytes >= 58 && protocol === 17 && (to === 546 || to === 547);
  if (type !== 0x0800) return false;
  if (PLATFORM.includes(source) || PLATFORM.includes(target)) return true;
  const dhcp = (port: number): boolean => port === 67 || port === 68;
  const whole = (fragment & 0x1fff) === 0 && bytes >= 34 + options + 4;
  return protocol === 17 && whole && dhcp(from) && dhcp(to);
}

const takes =
  ({ bytes }: Fields) =>
  ({ name }: { name: string }): boolean =>
    name === 'xdp' || bytes >= MIN_SKB;

describe('the programs that keep packets from the handler', () => {
  it('leave the platform’s to the machine, and no others', () => {
    const all = programs(true);
    let platform = 0;
    fc.assert(
      fc.property(fields, (one) => {
        const left = isPlatform(one);
        if (left) platform++;
        for (const { name, fd, ...answers } of all.filter(takes(one)))
          expect([name, run(fd, frame(one))]).toEqual([name, left ? answers.left : answers.taken]);
      }),
      { numRuns: 2000 },
    );
    expect(platform).toBeGreaterThan(200);
  });

  it('take all of them where nothing is protected', () => {
    const all = programs(false);
    fc.assert(
      fc.property(fields, (one) => {
        for (const { name, fd, taken } of all.filter(takes(one)))
          expect([name, run(fd, frame(one))]).toEqual([name, taken]);
      }),
      { numRuns: 200 },
    );
  });
});

/** A lab whose outside has a platform's address, from which it asks the guest. */
async function azure(): Promise<{ lab: Lab; platform: Station; ask: () => Promise<unknown> }> {
  const lab = await buildLab({ standIn: 'bridge' });
  const ip = (namespace: string, words: string): void =>
    void execFileSync('ip', ['-n', namespace, ...words.split(' ')]);
  ip(lab.outside, `addr add ${PLATFORM[0]}/32 dev u0`);
  ip(lab.outside, `route add ${lab.nic.guestAddress}/32 dev u0 src ${PLATFORM[0]}`);
  ip(lab.guest, `route add default via ${lab.nic.outsideAddress}`);
  await Station.start(lab.guest);
  const platform = await Station.start(lab.outside);
  const ask = (): Promise<unknown> => platform.call('ask', lab.nic.guestAddress, 5);
  return { lab, platform, ask };
}

/** Packets that the kernel counts as received by a device. */
function arrivals(lab: Lab, device: string): number {
  const words = ['-s', '-j', '-n', lab.guest, 'link', 'show', device];
  return JSON.parse(execFileSync('ip', words, { encoding: 'utf8' }))[0].stats64.rx.packets;
}

const received = (scene: Scene): number => scene.port.stats().received;

describe('a port on the NIC with the default route', () => {
  it('passes the platform’s packets to the machine on either path, regardless of its handler', async () => {
    const { lab, ask } = await azure();
    const scene = await Scene.openIn(lab, { handler: DROP, handlerOptions: {} });
    expect(scene.paths.synthetic).toMatchObject({ protects: 'platform' });
    expect(await ask()).toEqual({ asked: 5, wrong: 0 });
    await scene.plug();
    await until('the VF protected', () => scene.paths.vf?.protects === 'platform');
    const before = arrivals(lab, scene.nic.vf!);
    expect(await ask()).toEqual({ asked: 5, wrong: 0 });
    expect(arrivals(lab, scene.nic.vf!)).toBeGreaterThanOrEqual(before + 5);
    await ownedBy(scene.port, 'vf');
    await scene.unplug();
    expect(await ask()).toEqual({ asked: 5, wrong: 0 });
    expect(received(scene)).toBe(0);
    await addsUp(scene.port);
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it.each(['tcx', 'clsact'] as const)(
    'sees nothing of them inline either, redirected by %s',
    async (redirect) => {
      const { lab, ask } = await azure();
      const scene = await Scene.openIn(lab, { handler: HOST, handlerOptions: {}, host: 'inline', redirect });
      expect(await ask()).toEqual({ asked: 5, wrong: 0 });
      const { received: all, fromHost } = scene.port.stats();
      expect([all, fromHost]).toEqual([0, 0]);
      await scene.finish();
    },
  );

  it.each([
    [{ protect: 'none' }, 'nothing is to be protected'],
    [{ host: 'off', cutHost: true }, 'the machine is to be cut off'],
  ] as const)('gives all of them to its handler with %o: %s', async (options, _) => {
    const { lab, platform } = await azure();
    const scene = await Scene.openIn(lab, { handler: DROP, handlerOptions: {}, ...options });
    expect(scene.paths.synthetic).not.toHaveProperty('protects');
    for (const path of ['synthetic', 'vf'] as const) {
      if (path === 'vf') await scene.plug();
      const { rxPackets } = scene.port.stats().paths[path];
      await platform.call('datagrams', lab.nic.guestAddress, 53, 20, 100);
      await until('all of them', () => scene.port.stats().paths[path].rxPackets === rxPackets + 20);
    }
    await until('all dropped by the handler', () => scene.port.stats().dropped.verdict === 40);
    await scene.finish();
  });

  it('protects them with the machine cut off, if that is asked for', async () => {
    const { lab, ask } = await azure();
    const options = { host: 'off', cutHost: true, protect: 'platform' } as const;
    const scene = await Scene.openIn(lab, { handler: DROP, handlerOptions: {}, ...options });
    expect(await ask()).toEqual({ asked: 5, wrong: 0 });
    expect(received(scene)).toBe(0);
    await scene.finish();
  });
});

it('a port on a NIC without the default route protects nothing by itself', async () => {
  const scene = await Scene.open();
  expect(scene.paths.synthetic).not.toHaveProperty('protects');
  await scene.finish();
});
