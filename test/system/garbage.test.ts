/**
 * A packet makes no garbage: the heap of a worker that polls is as it was, however many packets it handles. One that sleeps
 * leaves a little at each sleep, of which a slow machine makes more: less than a byte a packet, and an object has sixteen.
 *
 * @module-tag unprivileged
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openPort } from '../../dist/src/index.js';
import { Path } from '../../dist/src/memory/layout.js';
import { Memory } from '../../dist/src/memory/shared.js';
import { MemoryPeer } from '../../dist/src/paths/memory/peer.js';

const WARM = 1_000_000;
const MEASURED = 1_000_000;
/** They are bounded in work: the limit only ends a test that hangs, however slow the machine is. */
const BOUNDED = { timeout: 600_000 };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinpath-garbage-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Bytes for each packet: one object for each burst would be half a byte. */
const NOTHING = 0.1;

test.each([
  ['that only gives a verdict', false],
  ['that reads and writes them', true],
])('a million packets leave no garbage in a worker %s', BOUNDED, async (_name, touch) => {
  const file = join(folder, 'profile.json');
  await using port = await openPort({
    network: 'memory',
    queues: 1,
    mode: 'poll',
    handler: new URL('../fixtures/handlers/gc-reflect.mjs', import.meta.url),
    handlerOptions: { warm: WARM, measured: MEASURED, file, touch },
  });
  const peer = MemoryPeer.attach(Memory.attach(port.shared), 0, 0, Path.SYNTHETIC)!;
  const total = WARM + MEASURED + 10_000;
  let delivered = 0;
  let collected = 0;
  while (collected < total) {
    delivered += peer.deliver(Math.min(64, total - delivered), () => 60);
    collected += peer.collect(64, () => {});
  }
  expect(garbage(`${file}.0`, MEASURED)).toBeLessThan(NOTHING);
});

interface Collection {
  readonly beforeGC: { readonly heapStatistics: { readonly usedHeapSize: number } };
  readonly afterGC: { readonly heapStatistics: { readonly usedHeapSize: number } };
}

/** Bytes for each packet that were collected or are left, by a profile of `gc-reflect.mjs` or `gc-wasteful.mjs`. */
function garbage(file: string, measured: number): number {
  expect(existsSync(file)).toBe(true);
  const { packets, profile, grown } = JSON.parse(readFileSync(file, 'utf8'));
  expect(packets).toBeGreaterThanOrEqual(measured);
  const collected = (profile.statistics as Collection[]).map(
    ({ beforeGC, afterGC }) => beforeGC.heapStatistics.usedHeapSize - afterGC.heapStatistics.usedHeapSize,
  );
  return collected.reduce((sum, bytes) => sum + Math.max(0, bytes), Math.max(0, grown)) / packets;
}

test('packets that one worker hashes and hands to another leave none in either', BOUNDED, async () => {
  const file = join(folder, 'profile.json');
  const [warm, measured] = [500_000, 1_000_000];
  await using port = await openPort({
    ...{ network: 'memory', queues: 2, mode: 'adaptive' },
    handler: new URL('../fixtures/handlers/gc-reflect.mjs', import.meta.url),
    handlerOptions: { warm, measured, file, touch: true },
  });
  const memory = Memory.attach(port.shared);
  const peers = [0, 1].map((queue) => MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!);
  let flow = 0;
  const write = (at: number): number => {
    const { view } = memory;
    view.setUint32(at + 12, 0x0800_4500);
    view.setUint16(at + 20, 0);
    view.setUint8(at + 23, 17);
    view.setUint32(at + 26, 0x0a00_0001);
    view.setUint32(at + 30, 0x0a00_0002);
    view.setUint32(at + 34, ((1024 + (flow++ & 255)) << 16) | 7);
    return 60;
  };
  // A window that no handoff ring overflows with: its entries are released after the packets have been sent.
  const [total, window] = [3_500_000, 1024];
  let delivered = 0;
  let collected = 0;
  for (let turn = 1; collected < total; turn++) {
    // What was dropped is never collected.
    if (turn % 2 ** 20 === 0) expect(port.stats().dropped.handoffFull).toBe(0);
    const room = Math.min(64, total - delivered, window - (delivered - collected));
    delivered += peers[0]!.deliver(room, write);
    for (const peer of peers) collected += peer.collect(64, () => {});
  }
  expect(port.stats().handedOver).toBeGreaterThan(measured);
  for (const queue of [0, 1]) expect(garbage(`${file}.${queue}`, measured)).toBeLessThan(1);
});

test('the same profile does see a handler that allocates', async () => {
  const file = join(folder, 'profile.json');
  await using port = await openPort({
    network: 'memory',
    queues: 1,
    mode: 'poll',
    handler: new URL('../fixtures/handlers/gc-wasteful.mjs', import.meta.url),
    handlerOptions: { warm: 100_000, measured: 1_000_000, file },
  });
  const peer = MemoryPeer.attach(Memory.attach(port.shared), 0, 0, Path.SYNTHETIC)!;
  let collected = 0;
  while (collected < 1_200_000) {
    peer.deliver(64, () => 60);
    collected += peer.collect(64, () => {});
  }
  expect(garbage(`${file}.0`, 1_000_000)).toBeGreaterThan(16);
});
