/** Metadata of packets, and what a handler orders for them: on both paths, for a handler in TypeScript and in WebAssembly. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { Bpf } from '../../src/kernel/bpf.ts';
import { kernelIsAtLeast } from '../../src/kernel/machine.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { Unclaimed, xdpRedirect } from '../../src/kernel/programs.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import type { MetadataName } from '../../src/memory/metadata.ts';
import { addsUp, buildLab, type Lab, ownedBy, passed, Scene, until } from '../support/harness.ts';
import { rawSocket } from '../support/raw.ts';
import { dissect, frameOf, noise, segment } from '../support/segments.ts';

const HANDLERS = {
  TypeScript: new URL('../fixtures/handlers/metadata.mjs', import.meta.url),
  WebAssembly: new URL('../../dist/test/fixtures/wasm/metadata.wasm', import.meta.url),
};
const OUTSIDE_MAC = '02:15:5d:77:00:01';
const Order = { NOTHING: 0, CHECKSUM: 1, TAG: 2, SEGMENTS: 3 } as const;
/** XDP metadata from drivers, and tcx links. */
const HAS_ALL = kernelIsAtLeast(6, 6);

const bytesOf = (text: string, separator: string, base: number): number[] =>
  text.split(separator).map((part) => Number.parseInt(part, base));

/** A UDP socket of the outside world's kernel, connected to port 7 of the guest. */
function udpSocket(lab: Lab, localPort: number) {
  const shim = loadShim();
  const name = (address: string, port: number): Uint8Array =>
    Uint8Array.of(2, 0, port >> 8, port & 255, ...bytesOf(address, '.', 10), ...new Uint8Array(8));
  const fd = inNamespace(shim, lab.outside, () => shim.socket(2, 2 | 0o4000, 0));
  onTestFinished(() => void shim.close(fd));
  expect(shim.bind(fd, name('10.77.0.1', localPort), 16)).toBe(0);
  expect(shim.connect(fd, name(lab.nic.guestAddress, 7), 16)).toBe(0);
  return {
    send: (payload: readonly number[]): void =>
      void expect(shim.send(fd, Uint8Array.from(payload), payload.length, 0)).toBe(payload.length),
    received(): number[][] {
      const found: number[][] = [];
      for (;;) {
        const bytes = new Uint8Array(2048);
        const count = shim.recv(fd, bytes, bytes.length, 0);
        if (count < 0) return found;
        found.push([...bytes.subarray(0, count)]);
      }
    },
  };
}

interface Metadata {
  readonly path: number;
  readonly verified: number;
  readonly rule: number;
  readonly hash: number;
  readonly time: bigint;
}

function metadataIn(payload: readonly number[]): Metadata {
  const view = new DataView(Uint8Array.from(payload).buffer);
  return {
    ...{ path: view.getUint8(1), verified: view.getUint8(2), rule: view.getUint32(4) },
    ...{ hash: view.getUint32(8), time: view.getBigUint64(12) },
  };
}

/** A UDP datagram from outside to port 7, as a frame. */
function request(scene: Scene, from: number, payload: readonly number[], vlans: number[] = []): Uint8Array {
  const frame = frameOf(
    segment({
      ...{ protocol: 17, from, to: 7, payload: [...payload], vlans },
      ...{ src: [10, 77, 0, 1], dst: bytesOf(scene.nic.guestAddress, '.', 10) },
    }),
  );
  frame.splice(0, 12, ...bytesOf(scene.nic.mac, ':', 16), ...bytesOf(OUTSIDE_MAC, ':', 16));
  return Uint8Array.from(frame);
}

const RULES = [
  'tcp to kernel',
  'udp count',
  'udp src port 6000-6999 to handler',
  'udp dst port 7 to handler',
];

describe.each(Object.entries(HANDLERS))('a handler in %s', (_language, handler) => {
  it('sees the metadata on both paths, and its orders leave by both with checksums that a kernel accepts', async () => {
    const lab = await buildLab({ queues: 1 });
    const outside = rawSocket(lab.outside, 'u0');
    const socket = udpSocket(lab, 5007);
    const configuration = { rules: RULES };
    const scene = await Scene.openIn(lab, { handler, configuration });
    const payload = noise(350, 7);
    const exchange = async (path: 1 | 2): Promise<void> => {
      const asked = async (order: number, answers: number): Promise<number[][]> => {
        outside.received();
        socket.send([order, ...payload]);
        const found: number[][] = [];
        await until(`an answer to order ${order}`, () => {
          found.push(...socket.received());
          return found.length >= answers;
        });
        return found;
      };
      // The kernel's UDP takes no wrong checksum, and its own sender has left the request's unfinished on a veth.
      const [answer] = await asked(Order.CHECKSUM, 1);
      expect(answer!.slice(20)).toEqual(payload.slice(19));
      const seen = metadataIn(answer!);
      expect(seen).toMatchObject({ path, verified: 0, rule: 4, time: 0n });
      if (HAS_ALL) expect(seen.hash).toBeGreaterThan(0);
      const segments = await asked(Order.SEGMENTS, 4);
      expect(segments.map(({ length }) => length)).toEqual([100, 100, 100, 51]);
      expect(metadataIn(segments[0]!)).toMatchObject({ path, rule: 4 });
      expect(segments.flat().slice(20)).toEqual(payload.slice(19));
      // A tag that the outside world has no VLAN for: only its packet socket sees it.
      outside.received();
      socket.send([Order.TAG, ...payload]);
      const frames: number[][] = [];
      await until('the tagged answer', () => {
        frames.push(...outside.received().map((frame) => [...frame]));
        return frames.some((frame) => frame[12] === 0x81);
      });
      const tagged = dissect(frames.find((frame) => frame[12] === 0x81)!);
      expect(tagged).toMatchObject({ vlans: [100], from: 7, to: 5007 });
      expect(tagged.payload.slice(20)).toEqual(payload.slice(19));
      expect(socket.received()).toEqual([]);
    };
    await exchange(1);
    await scene.plug();
    expect(scene.paths.vf?.lacks).toEqual({ checksum: expect.stringContaining('XDP has no function') });
    await exchange(2);
    await scene.unplug();
    await exchange(1);
    expect(scene.port.stats().queues[0]).toMatchObject({ segments: 9, dropBadOffload: 0 });
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

it('the rule of a packet goes with it to the worker that owns its flow, and follows an exchange of rules', async () => {
  const lab = await buildLab({ queues: 2 });
  const outside = rawSocket(lab.outside, 'u0');
  const handler = HANDLERS.TypeScript;
  const scene = await Scene.openIn(lab, { handler, configuration: { rules: RULES } });
  const { port } = scene;
  const FLOWS = 40;
  /** Both kinds of flows, mixed, each with its number in the payload. */
  const round = async (expected: readonly [number, number]): Promise<void> => {
    outside.received();
    for (let i = 0; i < FLOWS; i++) {
      outside.send(
        request(scene, (i % 2 === 0 ? 5000 : 6000) + i, [Order.NOTHING, ...new Array(19).fill(0), i]),
      );
    }
    const found = new Map<number, number>();
    await until('every answer', () => {
      for (const frame of outside.received()) {
        if (frame.length < 63 || frame.readUInt16BE(34) !== 7) continue;
        found.set(frame[62]!, frame.readUInt32BE(46));
      }
      return found.size === FLOWS;
    });
    const wanted = Array.from({ length: FLOWS }, (_, i) => [i, expected[i % 2]]);
    expect([...found].sort(([a], [b]) => a - b)).toEqual(wanted);
  };
  await round([4, 3]);
  await scene.plug();
  await round([4, 3]);
  expect(port.stats().handedOver).toBeGreaterThan(0);
  await port.rules.set(['udp src port 6000-6999 to handler']);
  await round([0, 1]);
  await port.rules.set([]);
  await round([0, 0]);
  await port.rules.set(RULES);
  await round([4, 3]);
  await scene.unplug();
  await round([4, 3]);
  await addsUp(port);
  await scene.finish();
  expect(scene.errors).toEqual([]);
});

it('the rule of a packet is known on one card alone', async () => {
  const lab = await buildLab({ queues: 1 });
  const outside = rawSocket(lab.outside, 'u0');
  const handler = HANDLERS.TypeScript;
  const scene = await Scene.openIn(lab, { handler, alone: true, configuration: { rules: RULES } });
  await ownedBy(scene.port, 'vf');
  outside.send(request(scene, 6001, [Order.NOTHING, ...new Array(30).fill(0)]));
  await until('the answer', () =>
    outside
      .received()
      .some((frame) => frame.readUInt16BE(34) === 7 && frame[43] === 2 && frame.readUInt32BE(46) === 3),
  );
  await scene.finish();
  expect(scene.errors).toEqual([]);
});

it.runIf(HAS_ALL)('a packet that the VF leaves to the kernel after all has no metadata any more', () => {
  const shim = loadShim();
  const bpf = new Bpf(shim);
  const fds: [number, number, number] = [bpf.xskMap(1), bpf.valueMap(), bpf.valueMap()];
  const program = bpf.load('xdp', 'tp_test', xdpRedirect(...fds, { metadata: { time: 0, hash: 0 } }));
  onTestFinished(() => [...fds, program].forEach((fd) => void shim.close(fd)));
  const packet = Uint8Array.from(frameOf(segment()));
  bpf.setValue(fds[1], Unclaimed.PASS);
  expect(bpf.testRun(program, packet)).toEqual({ result: Unclaimed.PASS, frame: packet });
});

it.runIf(HAS_ALL)('the hash of the device is that of the flow, on each path', async () => {
  const lab = await buildLab({ queues: 1 });
  const outside = rawSocket(lab.outside, 'u0');
  const scene = await Scene.openIn(lab, { handler: HANDLERS.TypeScript });
  await scene.plug();
  const hashes = new Map<number, Set<number>>();
  for (let i = 0; i < 60; i++)
    outside.send(request(scene, 5000 + (i % 6), [Order.NOTHING, ...new Array(30).fill(0)]));
  let answers = 0;
  await until('every answer', () => {
    for (const frame of outside.received()) {
      if (frame.length < 63 || frame.readUInt16BE(34) !== 7) continue;
      const flow = frame.readUInt16BE(36);
      hashes.set(flow, (hashes.get(flow) ?? new Set()).add(frame.readUInt32BE(50)));
      answers++;
    }
    return answers === 60;
  });
  expect([...hashes.values()].map(({ size }) => size)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(new Set([...hashes.values()].flatMap((one) => [...one])).size).toBe(6);
  await scene.finish();
});

describe('a path that cannot give what is asked for', () => {
  it('of a VF on the generic hook gives the rule, and says what it lacks', async () => {
    const LARGE = { lab: { mtu: 3800, queues: 1 }, port: { frameSize: 4096 } } as const;
    const scene = await Scene.open({
      ...LARGE,
      port: { ...LARGE.port, handler: HANDLERS.TypeScript, configuration: { rules: RULES } },
    });
    const outside = rawSocket(scene.lab.outside, 'u0');
    await scene.plug();
    expect(scene.paths.vf?.mode).toBe('generic copy');
    if (HAS_ALL) {
      const why = expect.stringContaining('runs the generic hook');
      expect(scene.paths.vf?.lacks).toMatchObject({ time: why, hash: why, checksum: expect.any(String) });
    }
    outside.send(request(scene, 6001, [Order.NOTHING, ...new Array(30).fill(0)]));
    await until('the answer', () =>
      outside.received().some((frame) => frame.readUInt16BE(34) === 7 && frame.readUInt32BE(46) === 3),
    );
    outside.close();
    await scene.finish();
  });

  it.each<[MetadataName[], object]>([
    [['rule', 'hash'], { redirect: 'clsact' }],
    [['tag', 'offload'], {}],
  ])('says so for %j with %o', async (metadata, options) => {
    const scene = await Scene.open({ port: { metadata, ...options } });
    const traffic = await scene.drive();
    const why = expect.stringContaining('only a tcx link');
    const lacks = metadata.includes('rule') ? { rule: why, hash: why } : undefined;
    expect(scene.paths.synthetic?.lacks).toEqual(lacks);
    await scene.plug();
    expect(scene.paths.vf?.lacks).toBeUndefined();
    expect(traffic.progress().received).toBeGreaterThan(0);
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

it('a port with metadata loses nothing in failovers, and nothing without', async () => {
  const scene = await Scene.open({
    port: { metadata: ['time', 'hash', 'checksum', 'rule', 'tag', 'offload'] },
  });
  const traffic = await scene.drive();
  for (let cycle = 0; cycle < 2; cycle++) {
    await scene.plug();
    // Fewer packets between two moves may be reordered: see docs/limits.md.
    await passed(traffic);
    await scene.whole();
    await scene.unplug();
    await passed(traffic);
  }
  const [report] = await scene.finish();
  expect(report!.packets).toMatchObject({ lost: 0, duplicated: 0, reordered: 0 });
  expect(scene.errors).toEqual([]);
});
