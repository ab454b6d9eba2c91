/** The file of a capture, from the records of two queues. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { compileFilter } from '../../../src/capture/filter/filter.ts';
import { interfaceOf } from '../../../src/capture/interfaces.ts';
import { RecordSender } from '../../../src/capture/records.ts';
import { CaptureStream } from '../../../src/control/capture-stream.ts';
import { realTimeOffset } from '../../../src/control/clock.ts';
import { CaptureTap } from '../../../src/datapath/capture-tap.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { DELIVER, DROP, FAILED, FORWARD, PASS, TEE, TX } from '../../../src/handler/handler.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { ethernet, ipv4, udp } from '../../support/frames.ts';
import { blocksOf, readPacket, textOf } from '../../support/pcapng.ts';

const geometry = {
  pageSize: 4096,
  ports: 1,
  queues: 2,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};
const ID = 4;
const START = 1_800_000_000_000_000_000n;

function streamOf(memory: Memory): CaptureStream {
  return new CaptureStream(memory, {
    ...{ capture: 0, id: ID, filter: 'udp', snapLength: 262_144, device: 'eth1' },
    ...{
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      application: 'Twinpath test',
      clockOffset: START,
      now: () => START,
    },
  });
}

/** A file with a packet of each verdict by the VF, and each of them sent by the synthetic path. */
function sample(): { file: Buffer; verdicts: number[] } {
  const memory = Memory.create(geometry);
  const burst = new Burst(memory, 1);
  const stream = streamOf(memory);
  const order = { id: ID, port: 0, snapLength: 262_144, program: compileFilter('udp') };
  const tap = new CaptureTap(memory, 1, [order]);
  const verdicts = [DROP, TX, PASS, FORWARD, DELIVER, FAILED, 99, TX | TEE, PASS | TEE, DELIVER | TEE];
  for (const i of verdicts.keys()) {
    const at = memory.layout.frames + i * 2048 + 256;
    memory.bytes.set(ethernet(ipv4(udp(Array(20).fill(i)), { protocol: 17 })), at);
    burst.offset[i] = at;
    burst.bytes[i] = 62;
  }
  burst.begin(verdicts.length);
  tap.received(burst, verdicts.length, Path.VF);
  burst.verdict.set(verdicts);
  tap.decided(burst, verdicts.length);
  for (const i of verdicts.keys()) tap.sent(burst.offset[i]!, 62, Path.SYNTHETIC);
  tap.commit();
  return { file: Buffer.concat([stream.head(), stream.read()!, stream.tail()]), verdicts };
}

describe('the file of a capture', () => {
  it('describes its interfaces, and each packet with the verdict as an action of XDP', () => {
    const { file, verdicts } = sample();
    const blocks = blocksOf(file);
    const interfaces = blocks.filter(({ type }) => type === 1);
    expect(interfaces.map((block) => textOf(block, 2))).toEqual([
      ...['synthetic rx', 'synthetic tx', 'vf rx', 'vf tx', 'host rx', 'host tx'],
    ]);
    expect(interfaces.every((block) => textOf(block, 11) === '\0udp')).toBe(true);
    expect(textOf(blocks[0]!, 4)).toBe('Twinpath test');
    const packets = blocks.filter(({ type }) => type === 6).map(readPacket);
    expect(packets.slice(0, verdicts.length)).toMatchObject(
      [1, 3, 2, 4, 4, 0, 1, 3, 2, 1].map((verdict) => ({
        interface: 2,
        direction: 1,
        queue: 1,
        verdict,
        length: 62,
      })),
    );
    for (const packet of packets.slice(verdicts.length))
      expect(packet).toMatchObject({ interface: 1, direction: 2, queue: 1, verdict: undefined });
    expect(blocks.filter(({ type }) => type === 5)).toHaveLength(6);
  });

  it('has the records of all queues in the order of their times, over any number of chunks', () => {
    const memory = Memory.create(geometry);
    const stream = streamOf(memory);
    const senders = [0, 1].map((queue) => new RecordSender(memory, 0, queue));
    const number = interfaceOf(Path.HOST, 0);
    for (let i = 0; i < 8000; i++) {
      const sender = senders[Number(i % 3 === 0)]!;
      const record = sender.push(ID, memory.layout.frames, 40, 40, number, 0);
      sender.stamp(record, Math.floor(i / 1000), (i % 1000) * 1000);
      sender.commit();
    }
    const chunks: Uint8Array[] = [];
    for (let chunk = stream.read(); chunk !== undefined; chunk = stream.read()) chunks.push(chunk);
    expect(chunks.length).toBeGreaterThan(3);
    const packets = blocksOf(Buffer.concat(chunks)).map(readPacket);
    expect(packets.map(({ nanos }) => nanos - START)).toEqual(
      Array.from(
        { length: 8000 },
        (_, i) => BigInt(Math.floor(i / 1000)) * 1_000_000_000n + BigInt((i % 1000) * 1000),
      ),
    );
  });

  it('says in a comment that a ring was damaged', () => {
    const memory = Memory.create(geometry);
    const stream = streamOf(memory);
    const sender = new RecordSender(memory, 0, 1);
    memory.words[sender.push(ID, memory.layout.frames, 40, 40, 0, 0) + 7] = 0;
    sender.commit();
    expect(stream.read()).toBeUndefined();
    const comments = blocksOf(Buffer.from(stream.tail())).map((block) => textOf(block, 1));
    expect(comments).toEqual([
      expect.stringMatching(/^1 times a ring was damaged/),
      ...Array(5).fill(undefined),
    ]);
  });

  const missing = ((): string => {
    try {
      for (const program of ['tshark', 'capinfos']) execFileSync(program, ['--version'], { stdio: 'ignore' });
      return '';
    } catch {
      return 'tshark and capinfos are not installed: test/peers.sh installs them';
    }
  })();

  it.skipIf(missing !== '')(`is read by tshark and capinfos${missing && `: ${missing}`}`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'tp-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'capture.pcapng');
    const { file, verdicts } = sample();
    writeFileSync(path, file);
    const run = (program: string, ...args: string[]): string =>
      execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const fields = ['frame.interface_name', 'frame.packet_flags_direction', 'frame.time_epoch', 'udp.length'];
    const shown = run('tshark', '-r', path, '-T', 'fields', ...fields.flatMap((field) => ['-e', field]));
    const lines = shown.trim().split('\n');
    expect(lines).toHaveLength(2 * verdicts.length);
    expect(lines[0]).toMatch(/^vf rx\t(0x0000000)?1\t18\d{8}\.\d{9}\t28$/);
    expect(lines.at(-1)).toMatch(/^synthetic tx\t(0x0000000)?2\t/);
    const about = run('capinfos', path);
    expect(about).toMatch(/File encapsulation: +Ethernet/);
    expect(about).toMatch(/File timestamp precision: +nanoseconds/);
    expect(about).toMatch(/Number of packets: +20/);
    expect(about).toMatch(/Capture application: +Twinpath test/);
    expect(about).toContain('Filter string = udp');
    expect(about).toMatch(/Strict time order: +True/);
  });
});

describe('the offset to the time of day', () => {
  it('is taken where a millisecond begins, and not waited for if the clock stands still', () => {
    let nanos = 5_000_000n;
    const millis = (): number => 1_000_000 + Number((nanos + 300_000n) / 1_000_000n);
    const clocks = {
      millis,
      nanos: () => {
        nanos += 1000n;
        return nanos;
      },
    };
    const error = realTimeOffset(clocks) - (1_000_000_000_000n + 300_000n);
    expect(error > -2000n && error < 2000n).toBe(true);
    expect(realTimeOffset({ millis: () => 7, nanos: () => 2n })).toBe(6_999_998n);
  });
});
