/** A packet that does not fit a frame is never handed on cut off: TCP is cut into frames, what cannot be is counted. */
import { execFileSync } from 'node:child_process';
import { describe, expect, onTestFinished, test } from 'vitest';
import { imbalances } from '../../dist/src/cli/imbalances.js';
import { openPort, type Port, type TwinpathError } from '../../dist/src/index.js';
import { kernelIsAtLeast } from '../../dist/src/kernel/machine.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { Lab } from '../../dist/src/lab/host.js';
import { LongNic } from '../../dist/src/lab/long-nic.js';
import { Path } from '../../dist/src/memory/layout.js';
import { Memory } from '../../dist/src/memory/shared.js';
import { buildLab, until } from '../support/harness.ts';
import { dissect, frameOf, noise, type Segment, segment } from '../support/segments.ts';

const LONG = 2500;

/** One UDP datagram from the outside host's kernel. */
function send(lab: Lab, bytes: number): void {
  const shim = loadShim();
  inNamespace(shim, lab.outside, () => {
    const fd = shim.socket(2, 2, 0);
    const address = Uint8Array.of(
      2,
      0,
      0,
      7,
      ...lab.nic.guestAddress.split('.').map(Number),
      ...new Uint8Array(8),
    );
    expect(shim.connect(fd, address, 16)).toBe(0);
    expect(shim.send(fd, new Uint8Array(bytes), bytes, 0)).toBe(bytes);
    shim.close(fd);
  });
}

const options = (lab: Lab) => ({
  netns: lab.guest,
  netvsc: lab.nic.netvsc,
  force: true,
  queues: 2,
  handler: new URL('../../dist/src/handlers/reflect.js', import.meta.url),
});

test('openPort refuses a device whose MTU does not fit a frame, and accepts it with frameSize 4096', async () => {
  await using lab = await Lab.create({ mtu: 3000 });
  await expect(openPort(options(lab))).rejects.toMatchObject({
    code: 'ERR_OPTION_INVALID',
    hint: expect.stringContaining('4096'),
  });
  await using port = await openPort({ ...options(lab), frameSize: 4096 });
  send(lab, LONG);
  await until('the packet', () => port.stats().received === 1);
  expect(port.stats().paths.synthetic.rxBytes).toBe(LONG + 42);
});

test.each(['io_uring', 'read/write'] as const)(
  'a packet longer than a frame, after the MTU was raised, is dropped under its own counter (%s)',
  async (tap) => {
    await using lab = await Lab.create({ mtu: 3000 });
    const ip = (...words: string[]): void => void execFileSync('ip', ['-n', lab.guest, ...words]);
    ip('link', 'set', lab.nic.netvsc, 'mtu', '1500');
    await using port = await openPort({ ...options(lab), tap });
    ip('link', 'set', lab.nic.netvsc, 'mtu', '3000');
    send(lab, LONG);
    send(lab, 100);
    await until('the short packet', () => port.stats().received === 1);
    await until('the long packet', () => port.stats().paths.synthetic.rxTooLong === 1);
    for (const { total, accounted, duplicates } of await port.audit()) {
      expect(accounted).toBe(total);
      expect(duplicates).toBe(0);
    }
  },
);

/** One flow of TCP, whose bytes are those of `noise` from its beginning. */
interface Stream {
  readonly fields: Partial<Segment>;
  readonly bytes: number[];
  /** Bytes that were delivered, and that came back in order. */
  delivered: number;
  returned: number;
  readonly lengths: number[];
}

/** Ports whose packets come with metadata before them. */
const METADATA = [
  { tap: 'io_uring', metadata: ['rule', 'time'] },
  { tap: 'read/write', metadata: ['hash', 'checksum'] },
] as const;

/** More than what any test sends in one flow. */
const LONGEST_STREAM = 450_000;
const FIRST = 0xffff_f000; // sequence numbers wrap
/** A device that is not known to merge packets. */
const BRIDGE = 'br9';
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/** Every packet is reflected: what comes back is what the handler saw. */
class LongScene {
  readonly nic: LongNic;
  readonly errors: TwinpathError[] = [];
  readonly streams: Stream[];
  /** Packets of other kinds that came back, by their UDP destination port. */
  readonly others: number[] = [];
  readonly #port: Port;

  private constructor(nic: LongNic, port: Port) {
    this.nic = nic;
    this.#port = port;
    port.on('error', (error) => this.errors.push(error));
    const flows: Partial<Segment>[] = [
      { version: 4, from: 1001 },
      { version: 4, from: 1002, options: TIMESTAMPS, id: 0xfff0 },
      { version: 6, from: 1003, options: TIMESTAMPS },
      { version: 4, from: 1004, vlans: [5] },
      { version: 6, from: 1005, vlans: [6, 7] },
    ];
    this.streams = flows.map((fields, i) => ({
      ...{ fields, bytes: noise(LONGEST_STREAM, i + 1), delivered: 0, returned: 0, lengths: [] },
    }));
  }

  static async open(
    options: object,
    { mtu = 1500, verified = false, bridged = false } = {},
  ): Promise<LongScene> {
    const lab = await buildLab();
    const nic = LongNic.create(loadShim(), lab.guest, { mtu });
    onTestFinished(() => nic.close());
    if (verified) nic.verify();
    if (bridged) {
      const ip = (...words: string[]): void => void execFileSync('ip', ['-n', lab.guest, ...words]);
      ip('link', 'add', BRIDGE, 'type', 'bridge');
      ip('link', 'set', nic.name, 'master', BRIDGE);
      ip('link', 'set', BRIDGE, 'up', 'promisc', 'on');
    }
    const port = await openPort({
      ...{ netns: lab.guest, netvsc: bridged ? BRIDGE : nic.name, force: true, queues: 2, host: 'off' },
      handler: new URL('../../dist/src/handlers/reflect.js', import.meta.url),
      ...options,
    });
    onTestFinished(() => port.close());
    const { metadata } = Memory.attach(port.shared).slot({ port: 0, queue: 0, path: Path.SYNTHETIC });
    expect(metadata).toBe('metadata' in options ? 1 : 0);
    return new LongScene(nic, port);
  }

  get stats() {
    return this.#port.stats();
  }

  /** The next `count` bytes of a stream, in one packet. `spoil`: with another checksum than the right one. */
  stream(stream: Stream, count: number, { flags = 0x10, spoil = false } = {}): void {
    const payload = stream.bytes.slice(stream.delivered, stream.delivered + count);
    const seq = (FIRST + stream.delivered) >>> 0;
    const frame = Uint8Array.from(frameOf(segment({ ...stream.fields, seq, flags, payload })));
    if (spoil) frame[frame.length - count - (stream.fields.options?.length ?? 0) - 4]! ^= 0x55;
    this.nic.deliver(frame);
    stream.delivered += count;
  }

  datagram(to: number, count: number, fields: Partial<Segment> = {}): void {
    this.nic.deliver(
      Uint8Array.from(frameOf(segment({ protocol: 17, to, payload: noise(count, to), ...fields }))),
    );
  }

  /** Takes what has come back, and checks it as its receiver does. */
  take(): void {
    for (let frame = this.nic.take(); frame !== undefined; frame = this.nic.take()) {
      const found = dissect([...frame]);
      if (found.protocol === 17) {
        this.others.push(found.to);
        continue;
      }
      const stream = this.streams.find(({ fields }) => fields.from === found.from)!;
      expect(found.seq).toBe((FIRST + stream.returned) >>> 0);
      const end = stream.returned + found.payload.length;
      const bytes = stream.bytes.slice(stream.returned, end);
      // Vitest's own comparison of so many numbers takes a hundred times as long.
      if (!Buffer.from(found.payload).equals(Buffer.from(bytes))) expect(found.payload).toEqual(bytes);
      expect(found.vlans).toEqual(stream.fields.vlans ?? []);
      expect(found.options).toEqual(stream.fields.options ?? []);
      stream.returned = end;
      stream.lengths.push(frame.length - 14 - 4 * found.vlans.length);
    }
  }

  async settled(): Promise<void> {
    await until('every byte back', () => {
      this.take();
      return this.streams.every(({ delivered, returned }) => delivered === returned);
    });
  }

  async finish(): Promise<void> {
    for (const { total, accounted, duplicates } of await this.#port.audit()) {
      expect([accounted, duplicates]).toEqual([total, 0]);
    }
    expect(imbalances(this.stats)).toEqual([]);
    this.take();
  }
}

// Each tap with each size of frame, redirect and number of queues, and with metadata.
test.each([
  { tap: 'io_uring' },
  { tap: 'read/write', frameSize: 4096 },
  { tap: 'io_uring', frameSize: 4096, redirect: 'clsact', queues: 1 },
  ...(kernelIsAtLeast(6, 6) ? METADATA : [{ tap: 'read/write' }]),
] as const)(
  'packets of TCP longer than a frame that a NetVSC delivers are cut to the MTU, once and in order, also in bursts with short ones, and others are counted (%o)',
  async (options) => {
    const scene = await LongScene.open(options);
    const { frameSize = 2048 } = options as { frameSize?: number };
    const room = frameSize - 256;
    const lengths = [4096, 30_000, 9000, 100, 1424, 65_000, 1, 1000, 12_345, 200, 60_000];
    let long = 0;
    for (const [i, count] of lengths.entries()) {
      for (const stream of scene.streams) {
        scene.stream(stream, count, { flags: i % 2 === 0 ? 0x18 : 0x10 });
        if (count + 40 > room) long++;
      }
      scene.datagram(2000 + i, 1000);
      scene.datagram(3000 + i, 8000);
      scene.take();
    }
    // A fragment of TCP says nothing of where its segment begins.
    scene.nic.deliver(Uint8Array.from(frameOf(segment({ fragment: 0x2000, payload: noise(5000, 1) }))));
    await scene.settled();
    await until('the datagrams back', () => {
      scene.take();
      return scene.others.length === lengths.length;
    });
    expect(scene.others.sort()).toEqual(lengths.map((_, i) => 2000 + i));
    // A second tag takes its bytes from the MTU.
    expect(scene.streams.map((stream) => Math.max(...stream.lengths))).toEqual([
      1500, 1500, 1500, 1500, 1496,
    ]);
    const counted = () => scene.stats.paths.synthetic;
    await until('all others counted', () => counted().rxTooLong === lengths.length + 1);
    expect(counted().rxCut).toBe(long);

    const { rxTooLong } = counted();
    for (let round = 0; round < 4; round++) {
      // More than a lot of reads brings, before any of it is taken.
      for (let i = 0; i < 20; i++) {
        for (const stream of scene.streams) scene.stream(stream, i % 3 === 0 ? 7000 : 700);
      }
      await scene.settled();
    }
    expect(counted()).toMatchObject({ rxCut: long + 4 * 7 * 5, rxTooLong, rxErrors: 0 });
    await scene.finish();
    expect(scene.errors).toEqual([]);
  },
);

test('unexpected long packets are counted as lost up to the end of a batch of reads, and cut afterwards', async () => {
  const scene = await LongScene.open({ queues: 1 }, { bridged: true });
  let delivered = 0;
  let lost = 0;
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 200; i++) {
      const payload = noise(i % 4 === 0 ? 7000 : 700, i);
      scene.nic.deliver(Uint8Array.from(frameOf(segment({ version: 4, from: 1001, seq: i, payload }))));
      if (i % 4 === 0) delivered++;
    }
    await until('all of them', () => {
      while (scene.nic.take() !== undefined);
      const { rxCut, rxTooLong } = scene.stats.paths.synthetic;
      return rxCut + rxTooLong === delivered;
    });
    const { rxTooLong } = scene.stats.paths.synthetic;
    if (round > 0 && lost > 0) expect(rxTooLong).toBe(lost);
    lost = rxTooLong;
  }
  expect(lost).toBeLessThanOrEqual(64);
  await until('the others', () => scene.stats.paths.synthetic.rxPackets >= 5 * 150);
  while (scene.nic.take() !== undefined);
  expect(imbalances(scene.stats)).toEqual([]);
});

describe('the checksum of a packet that is cut', () => {
  test('must be right if no device has verified it: a damaged packet is dropped and counted', async () => {
    const scene = await LongScene.open({});
    const stream = scene.streams[0]!;
    scene.stream(stream, 5000, { spoil: true });
    await until('it counted', () => scene.stats.paths.synthetic.rxTooLong === 1);
    stream.returned = 5000;
    scene.stream(stream, 5000);
    await scene.settled();
    expect(scene.stats.paths.synthetic.rxCut).toBe(1);
    await scene.finish();
  });

  test.each([
    { redirect: 'tcx' },
    { redirect: 'clsact' },
    ...(kernelIsAtLeast(6, 6) ? METADATA.slice(1) : []),
  ] as const)(
    'may be that of another packet where the device has verified it, as hv_netvsc leaves it (%o)',
    async (options) => {
      // The program that plays the device comes first.
      const scene = await LongScene.open({ ...options, redirectOrder: 'last' }, { verified: true });
      for (const stream of scene.streams) {
        scene.stream(stream, 20_000, { spoil: true });
        scene.stream(stream, 500);
      }
      await scene.settled();
      expect(scene.stats.paths.synthetic).toMatchObject({ rxCut: 5, rxTooLong: 0 });
      await scene.finish();
    },
  );
});

test.each([{}, ...(kernelIsAtLeast(6, 6) ? METADATA.slice(1) : [])])(
  'a packet that fills a frame to the last byte is received whole, tagged or not (%o)',
  async (options) => {
    const scene = await LongScene.open(options, { mtu: 1769 });
    const room = 2048 - 256;
    const lengths = Array.from({ length: 12 }, (_, i) => room - 8 + i);
    for (const bytes of lengths) scene.datagram(4000, bytes - 42);
    // With the tag that the kernel takes out of it, and the tap puts back.
    for (const bytes of lengths) scene.datagram(4001, bytes - 46, { vlans: [9] });
    await until('the last of them', () => scene.stats.paths.synthetic.rxTooLong === 2 * 4);
    const fitting = lengths.filter((bytes) => bytes < room);
    expect(scene.stats.paths.synthetic).toMatchObject({
      ...{ rxPackets: 2 * fitting.length, rxCut: 0 },
      rxBytes: 2 * fitting.reduce((sum, bytes) => sum + bytes, 0),
    });
    await scene.finish();
  },
);
