/** Packets longer than a buffer of the VF, on both paths: chains of AF_XDP descriptors on one, long reads on the other. */
import { describe, expect, it } from 'vitest';
import type { DeliveredPacket } from '../../dist/src/delivered-burst.js';
import { kernelIsAtLeast } from '../../dist/src/kernel/machine.js';
import {
  buildLab,
  drive,
  ECHO,
  expectNoDrops,
  expectUnharmed,
  monotonicNanos,
  ownedBy,
  passed,
  Scene,
  unexplained,
  until,
} from '../support/harness.ts';
import { Life, MIB } from '../support/life.ts';
import { linkIn } from '../support/machine-state.ts';
import { frame, rawSocket } from '../support/raw.ts';
import { badChecksums } from '../support/stations.ts';
import { limitVf } from '../support/vf-limit.ts';

const MTU = 9000;
const FRAMES = { frameSize: 16_384, frames: 4096 } as const;
/** UDP payload of the longest packet. */
const BYTES = MTU - 28;
/** Few enough for the queue of a veth, and for its buffers. */
const LOAD = { bytes: BYTES, rate: 5000, window: 64 } as const;

/** In copy mode we send chains where the kernel says how far it has read. */
const CHAINS = kernelIsAtLeast(6, 17);
const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const WASM = new URL('../../dist/src/handlers/echo.wasm', import.meta.url);
const BY_FIRST_BYTE = new URL('../fixtures/handlers/by-first-byte.mjs', import.meta.url);
const OUTSIDE_MAC = '02:15:5d:77:00:01';
const CYCLES = 2;
/** Local experimental EtherType: no stack looks into it. */
const TYPE = '88b5';

describe.runIf(CHAINS)('a port with jumbo frames', () => {
  it.each([
    ['a veth as NetVSC', 'veth', {}],
    ['a bridge as NetVSC, and a tap without io_uring', 'bridge', { tap: 'read/write' }],
    ['a handler in WebAssembly', 'veth', { handler: WASM, queues: 1 }],
  ] as const)(
    'loses, doubles and reorders nothing in graceful failovers under load: %s',
    async (_, standIn, port) => {
      const scene = await Scene.open({ lab: { mtu: MTU, standIn }, port: { ...FRAMES, ...port } });
      const traffic = await scene.drive(LOAD);
      const small = await drive(scene.lab, scene.nic, { rate: 5000, window: 64, icmpRate: 0 });
      for (let cycle = 0; cycle < CYCLES; cycle++) {
        await scene.plug();
        await passed(traffic);
        await until('short packets', () => small.progress().received > (cycle + 1) * 600);
        await scene.whole();
        await scene.unplug();
        await passed(traffic);
        await scene.whole();
      }
      expectNoDrops(scene.port);
      const { vf } = scene.port.stats().paths;
      expect(vf.rxGathered).toBeGreaterThan(CYCLES * 300);
      expect(vf.rxGathered).toBeLessThan(vf.rxPackets);
      expect((await small.stop()).packets).toMatchObject({
        lost: 0,
        duplicated: 0,
        reordered: 0,
        unknown: 0,
      });
      const [report] = await scene.finish();
      expectUnharmed(report!);
      expect(scene.errors).toEqual([]);
    },
  );

  it('hands long packets over between workers, in both directions', async () => {
    // The VF has one queue, so it receives and sends for both workers.
    const lab = await buildLab({ mtu: MTU, queues: 1 });
    const scene = await Scene.openIn(lab, { ...FRAMES, queues: 2, handler: ECHO, rss: 'software' });
    const traffic = await scene.drive({ ...LOAD, flows: 64 });
    await scene.plug();
    await passed(traffic);
    await scene.whole();
    await scene.unplug();
    await passed(traffic);
    expectNoDrops(scene.port);
    const { handedOver, paths } = scene.port.stats();
    expect(handedOver).toBeGreaterThan(100);
    expect(paths.vf.rxGathered).toBeGreaterThan(300);
    const [report] = await scene.finish();
    expectUnharmed(report!);
  });

  it('gives a handler, the application and the sender the bytes of every length, by either path', async () => {
    const lab = await buildLab({ mtu: MTU });
    const outside = rawSocket(lab.outside, 'u0');
    const inside = rawSocket(lab.guest, 'eth0');
    const scene = await Scene.openIn(lab, { ...FRAMES, handler: BY_FIRST_BYTE });
    const { nic, port } = scene;
    const delivered: DeliveredPacket[] = [];
    const reading = (async () => {
      for await (const packet of port.packets()) delivered.push(packet);
    })();
    const answers: Buffer[] = [];
    const passedOn: Buffer[] = [];
    const sent: Buffer[] = [];
    /** The first byte of the last 50 is the verdict; all others follow from the packet's number. */
    const packet = (verdict: string, number: number, bytes: number): Buffer => {
      const made = Buffer.alloc(bytes, 0);
      frame(nic.mac, OUTSIDE_MAC, TYPE, '').copy(made, 0, 0, 14);
      for (let i = 14; i < bytes; i++) made[i] = (number * 31 + i * 7 + (i >> 8)) & 255;
      made.write(verdict, bytes - 50);
      return made;
    };
    // Those of one buffer of the VF, of two and of three, and those beside.
    const lengths = [64, 1514, 3839, 3840, 3841, 3842, 4096, 7679, 7680, 7681, 8192, 9013, 9014];
    const exchange = async (verdicts: readonly string[], onVf = verdicts.includes('P')): Promise<void> => {
      for (const bytes of lengths) {
        for (const verdict of verdicts) {
          const made = packet(verdict, sent.length, bytes);
          sent.push(made);
          outside.send(made);
        }
        await until(`${sent.length} packets of up to ${bytes} bytes`, () => {
          answers.push(...outside.received());
          if (onVf) passedOn.push(...inside.received().filter((one) => one.readUInt16BE(12) === 0x88b5));
          return delivered.length + answers.length + passedOn.length >= sent.length;
        });
      }
    };
    await exchange(['D', 'T']);
    await scene.plug();
    inside.received(); // a packet socket also sees what comes by the NetVSC
    await exchange(['D', 'T', 'P']);
    expect(port.stats().paths.vf.rxGathered).toBe(3 * lengths.filter((bytes) => bytes > 3840).length);
    await scene.unplug();
    await scene.finish();
    await reading;
    const wanted = (verdict: string): Buffer[] =>
      sent.filter((one) => one[one.length - 50] === verdict.charCodeAt(0));
    const texts = (all: readonly Uint8Array[]): string[] =>
      all.map((one) => Buffer.from(one).toString('latin1'));
    expect(texts(delivered.map(({ data }) => data))).toEqual(texts(wanted('D')));
    expect(texts(passedOn)).toEqual(texts(wanted('P')));
    const back = wanted('T').map((one) =>
      Buffer.concat([one.subarray(6, 12), one.subarray(0, 6), one.subarray(12)]),
    );
    expect(texts(answers)).toEqual(texts(back));
  });

  it('survives surprise removals with every frame, and loses only packets under way to the VF', async () => {
    const scene = await Scene.open({ lab: { mtu: MTU }, port: FRAMES });
    const traffic = await scene.drive(LOAD);
    const surprises: [number, number][] = [];
    for (let round = 0; round < 2; round++) {
      await scene.plug();
      await passed(traffic);
      const from = monotonicNanos();
      scene.nic.surprise();
      await scene.nic.hostNotices();
      surprises.push([from, monotonicNanos()]);
      await ownedBy(scene.port, 'synthetic');
      await passed(traffic);
      await scene.whole();
    }
    const [report] = await scene.finish();
    expect(unexplained(report!, surprises)).toEqual([]);
    expect(scene.errors).toEqual([]);
  });

  it.each(['inline', 'ingress'] as const)(
    'carries the connections of the machine itself on both paths, with host: %s',
    async (host) => {
      const lab = await buildLab({ mtu: MTU, arp: true });
      const life = await Life.begin(lab);
      const scene = await Scene.openIn(lab, { ...FRAMES, handler: HOST, host });
      await life.stream();
      await life.goOn();
      await scene.plug();
      await life.goOn();
      await life.errands();
      await scene.whole();
      await scene.unplug();
      await life.goOn();
      await life.settle();
      // Full TCP segments of that MTU come in several buffers.
      expect(scene.port.stats().paths.vf.rxGathered).toBeGreaterThan(MIB / MTU / 2);
      await scene.finish();
      expect(scene.errors).toEqual([]);
      for (const namespace of [lab.guest, lab.outside]) expect(badChecksums(namespace)).toBe(0);
    },
  );

  it('takes an MTU of 9000 while it is open, on both paths, and gives it back', async () => {
    const scene = await Scene.open({
      lab: { mtu: MTU },
      port: { ...FRAMES, configuration: { mtu: 1500 } },
    });
    const { lab, port, nic } = scene;
    const mtus = (): number[] => ['eth0', nic.vf!].map((name) => linkIn(lab.guest, name)!.mtu);
    await scene.plug();
    expect(mtus()).toEqual([1500, 1500]);
    const { capability } = await port.information();
    expect(capability).toMatchObject({ mtu: { max: 15_900 }, multiBuffer: { has: true } });
    await port.configure({ mtu: MTU });
    expect(mtus()).toEqual([MTU, MTU]);
    await ownedBy(port, 'vf');
    const traffic = await scene.drive(LOAD);
    await passed(traffic);
    expect(port.stats().paths.vf.rxGathered).toBeGreaterThan(300);
    await scene.unplug();
    await passed(traffic);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(linkIn(lab.guest, 'eth0')!.mtu).toBe(MTU); // as found
    expect(scene.errors).toEqual([]);
  });

  it('is refused an MTU of 9000 by a VF that cannot, and keeps both paths as they were', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    limitVf(lab);
    const scene = await Scene.openIn(lab, FRAMES);
    await ownedBy(scene.port, 'vf');
    await expect(scene.port.configure({ mtu: MTU })).rejects.toMatchObject({
      ...{ code: 'ERR_DEVICE_SETTINGS', device: 'vf0', syscall: 'RTM_SETLINK' },
    });
    expect(['eth0', 'vf0'].map((name) => linkIn(lab.guest, name)!.mtu)).toEqual([1500, 1500]);
    await ownedBy(scene.port, 'vf');
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});
