/** When the packets of a file are due, and how far a player goes without a worker, by a clock of the test's own. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { FramePool } from '../../../src/memory/frames.ts';
import { Path } from '../../../src/memory/layout.ts';
import { writeRss } from '../../../src/memory/rss-block.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { type ReplayMessage, ReplayWords } from '../../../src/replay/messages.ts';
import { Player } from '../../../src/replay/player.ts';
import { Recording } from '../../../src/replay/recording.ts';
import type { ReplaySettings } from '../../../src/replay-settings.ts';
import { section, type Written } from '../../support/capture-files.ts';
import { memoryQueue } from '../../support/memory-queue.ts';

const folder = mkdtempSync(join(tmpdir(), 'twinpath-recording-'));
afterAll(() => rmSync(folder, { recursive: true }));

const MAX_BYTES = 1500;
const data = Array(60).fill(1);
/** One packet for each of these times, in nanoseconds; undefined: without a time. */
const at = (times: readonly (number | undefined)[]): Written[] =>
  times.map((time) => (time === undefined ? { data, kind: 'simple' } : { data, ticks: BigInt(time) }));

function settingsOf(packets: readonly Written[], settings: Partial<ReplaySettings> = {}): ReplaySettings {
  const file = join(folder, 'file');
  writeFileSync(file, Uint8Array.from(section(packets, { interfaces: [{ options: [[9, [9]]] }] })));
  return { file, out: undefined, speed: 1, times: 1, mac: undefined, ...settings };
}

/** The times at which packets are due, by a clock that stands at `now`. */
function dues(recording: Recording): number[] {
  const found: number[] = [];
  for (recording.advance(MAX_BYTES); recording.packet !== undefined; recording.advance(MAX_BYTES))
    found.push(recording.due);
  return found;
}

describe('a recording', () => {
  it.each([
    [1, [1000, 1030, 1030, 1090]],
    [2, [1000, 1015, 1015, 1045]],
    [0.5, [1000, 1060, 1060, 1180]],
    [0, [0, 0, 0, 0]],
  ])('has its packets due at speed %d from when the first is read', (speed, expected) => {
    const settings = settingsOf(at([500, 530, undefined, 590]), { speed });
    expect(dues(new Recording(settings, () => 1000))).toEqual(expected);
  });

  it('does not wait for a packet that is older than the first', () => {
    expect(dues(new Recording(settingsOf(at([500, 400, 510])), () => 1000))).toEqual([1000, 900, 1010]);
  });

  it('begins anew in each round, while its clock goes on', () => {
    let now = 1000;
    const recording = new Recording(settingsOf(at([500, 530]), { times: 2 }), () => now);
    recording.advance(MAX_BYTES);
    recording.advance(MAX_BYTES);
    expect([recording.due, recording.nanos]).toEqual([1030, 500n]);
    now = 2000;
    recording.advance(MAX_BYTES);
    expect([recording.due, recording.nanos]).toEqual([2000, 1500n]);
    recording.advance(MAX_BYTES);
    expect(recording.due).toBe(2030);
    recording.advance(MAX_BYTES);
    expect([recording.packet, recording.played.played]).toEqual([undefined, 4]);
  });

  it('is over after a round in which no packet came in, and has skipped those of one', () => {
    const packets: Written[] = [
      ...[1, 2].map(() => ({ data, flags: 2 })),
      { data: Array(13).fill(1) },
      { data: Array(MAX_BYTES + 1).fill(1) },
    ];
    const recording = new Recording(settingsOf(packets, { times: 1e9 }), () => 1000);
    expect(dues(recording)).toEqual([]);
    expect(recording.played).toEqual({
      ...{ played: 0, playedBytes: 0, cut: 0 },
      skipped: { outbound: 2, tooShort: 1, tooLong: 1 },
    });
    const emptied = new Recording(settingsOf([{ data }], { times: 1e9 }), () => 1000);
    emptied.advance(MAX_BYTES);
    rmSync(join(folder, 'file')); // it has another one open
    settingsOf(packets);
    expect(dues(emptied)).toEqual([]);
    expect(emptied.played).toMatchObject({ played: 1, skipped: { outbound: 2 } });
    const some = new Recording(settingsOf([...packets, { data }], { times: 3 }), () => 1000);
    expect(dues(some)).toHaveLength(3);
    expect(some.played).toMatchObject({ played: 3, skipped: { outbound: 6, tooShort: 3, tooLong: 3 } });
  });

  it('is of a regular file, and waits for no pipe', () => {
    const file = join(folder, 'pipe');
    execFileSync('mkfifo', [file]);
    for (const other of [file, folder, '/dev/zero']) {
      const detail = expect.stringMatching(/no regular file.*FILE/);
      expect(() => new Recording({ ...settingsOf([]), file: other }, () => 0)).toThrow(
        expect.objectContaining({ code: 'ERR_CAPTURE_FILE', device: other, detail }),
      );
    }
  });

  it('shows the latest time at full speed', () => {
    const recording = new Recording(settingsOf(at([500, 400, undefined, 510]), { speed: 0 }), () => 1000);
    const shown = [0, 1, 2, 3].map(() => {
      recording.advance(MAX_BYTES);
      return recording.nanos;
    });
    expect(shown).toEqual([500n, 500n, 500n, 510n]);
  });
});

describe('a player', () => {
  /** Runs one for a bounded number of looks at the clock, at a queue whose worker does nothing. */
  function deliveredTo(ringEntries: number, reading: boolean, due = 0) {
    const memory = Memory.create({
      ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 2048, ringEntries },
    });
    writeRss(memory, 0, { key: new Uint8Array(40), hashTypes: 0, table: new Uint8Array(128) }, false);
    const device = new MemoryDevice(memory, 0, Path.SYNTHETIC, 'memory0', true);
    device.open();
    const pool = new FramePool(memory, 0);
    pool.owners.recover([]);
    const queue = memoryQueue(memory, pool, { port: 0, queue: 0, path: Path.SYNTHETIC });
    for (let i = 0; i < ringEntries / 64; i++) queue.refill();
    device.arm();
    const words = new ReplayWords();
    words.reading = reading;
    let looks = 0;
    const clock = (): number => {
      if (++looks === 4000) words.stop();
      return -due;
    };
    const recording = new Recording(settingsOf(at([0]), { speed: 0, times: 3000 }), clock);
    const posted: ReplayMessage[] = [];
    new Player({ memory, recording, out: undefined, words, clock, post: (one) => posted.push(one) }).run();
    recording.close();
    expect(posted).toEqual([]);
    const { undelivered } = MemoryPeer.attach(memory, 0, 0, Path.SYNTHETIC)!;
    return { undelivered, entries: memory.layout.deliveryEntries };
  }

  it('leaves room for the answers to what is not handled yet, and for the application that reads', () => {
    expect(deliveredTo(2048, false).undelivered).toBe(1024);
    expect(deliveredTo(512, false).undelivered).toBe(512); // no empty frame is left
    const { undelivered, entries } = deliveredTo(2048, true);
    expect(undelivered).toBe(Math.min(1024, entries));
    expect(entries).toBeLessThan(1024);
    expect(deliveredTo(2048, false, 1).undelivered).toBe(0); // none is due
  });
});
