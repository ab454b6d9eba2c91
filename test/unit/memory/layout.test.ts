import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CAPTURE_COUNTERS } from '../../../src/capture/interfaces.ts';
import {
  ownerAttached,
  ownerEpoch,
  ownerPath,
  ownerReclaim,
  ownerWord,
} from '../../../src/memory/bit-fields.ts';
import {
  LEDGER_FIELDS,
  PATH_AREAS,
  PATH_BYTES,
  PATH_WORDS,
  QUEUE_AREAS,
  QUEUE_BYTES,
  QUEUE_WORDS,
  WORKER_AREAS,
  WORKER_BYTES,
  WORKER_WORDS,
} from '../../../src/memory/blocks.ts';
import { ORDER_BYTES } from '../../../src/memory/capture-orders.ts';
import { KERNEL_COUNTERS, PATH_COUNTERS, QUEUE_COUNTERS } from '../../../src/memory/counters.ts';
import {
  CAPTURE_SLOT,
  CAPTURES,
  DELIVERY_ENTRY,
  type Geometry,
  HOST_BUFFER_BYTES,
  HOST_BUFFERS,
  JOURNAL_RECORDS,
  LONG_HEAD_BYTES,
  LONG_READS,
  layOut,
  RELAY_ENTRIES,
  RELAYS,
  REPLAY_ENTRIES,
  RETA_ENTRIES,
} from '../../../src/memory/geometry.ts';
import { JOURNAL_FIELDS } from '../../../src/memory/journal.ts';
import { LINE, type PathId, Ring, SLOT_PATHS } from '../../../src/memory/layout.ts';
import { OWN_RING } from '../../../src/memory/requests.ts';
import { WORKER_RING } from '../../../src/memory/ring.ts';
import { BURST_BYTES, MODULE_AREA_BYTES, MODULE_STATIC_BYTES } from '../../../src/memory/wasm-abi.ts';

const geometries: fc.Arbitrary<Geometry> = fc.record({
  pageSize: fc.constantFrom(4096, 16384, 65536),
  ports: fc.integer({ min: 1, max: 3 }),
  queues: fc.integer({ min: 1, max: 5 }),
  frameSize: fc.constantFrom(2048, 4096, 16_384),
  framesPerWorker: fc.constantFrom(64, 4096),
  ringEntries: fc.constantFrom(64, 2048),
});

/** Every section of a layout as [start, end). */
function sections(geometry: Geometry): [number, number][] {
  const layout = layOut(geometry);
  const { ports, queues, framesPerWorker } = geometry;
  const found: [number, number][] = [
    [0, MODULE_STATIC_BYTES],
    [layout.control, layout.control + geometry.pageSize],
    [layout.journalHead, layout.journalHead + LINE],
    [layout.journal, layout.journal + JOURNAL_RECORDS * layout.journalRecordBytes],
    [layout.owners, layout.owners + 2 * queues * framesPerWorker],
    [layout.places, layout.places + (geometry.frameSize > 4096 ? 4 : 0) * queues * framesPerWorker],
    [layout.frames, layout.frames + layout.framesBytes],
  ];
  const add = (start: number, bytes: number): void => void found.push([start, start + bytes]);
  for (let queue = 0; queue < queues; queue++) {
    add(layout.worker(queue), WORKER_BYTES);
    add(layout.burst(queue), BURST_BYTES);
    add(layout.moduleArea(queue), MODULE_AREA_BYTES);
    add(layout.poolStack(queue), framesPerWorker * 4);
    for (let relay = 0; relay < RELAYS; relay++) {
      add(layout.relay(queue, relay), WORKER_RING.entries + RELAY_ENTRIES * layout.copyBytes);
    }
    for (let capture = 0; capture < CAPTURES; capture++) {
      const ring = WORKER_RING.entries + layout.captureEntries * CAPTURE_SLOT;
      add(layout.captureRing(capture, queue), ring);
      add(layout.captureCounters(capture, queue), 8 * CAPTURE_COUNTERS);
    }
    for (let to = 0; to < queues; to++) {
      if (queues > 1) add(layout.returnRing(queue, to), WORKER_RING.entries + layout.returnEntries * 4);
    }
    for (let port = 0; port < ports; port++) {
      add(layout.queue(port, queue), QUEUE_BYTES);
      add(layout.delivery(port, queue), WORKER_RING.entries + layout.deliveryEntries * DELIVERY_ENTRY);
      add(layout.replay(port, queue), WORKER_RING.entries + REPLAY_ENTRIES * 16);
      add(layout.hostBuffers(port, queue), HOST_BUFFERS * HOST_BUFFER_BYTES);
      add(layout.longPackets(port, queue), LONG_HEAD_BYTES + LONG_READS * HOST_BUFFER_BYTES);
      for (let to = 0; to < queues; to++) {
        if (queues > 1)
          add(layout.handoff(port, queue, to), WORKER_RING.entries + layout.handoffEntries * 16);
      }
      for (const path of SLOT_PATHS) {
        add(layout.slot(port, queue, path), PATH_BYTES);
        for (const ring of Object.values(Ring))
          add(layout.ring(port, queue, path, ring), layout.ringRoom(ring));
      }
    }
  }
  for (let capture = 0; capture < CAPTURES; capture++) {
    add(layout.captureOrder(capture), ORDER_BYTES);
  }
  for (let port = 0; port < ports; port++) {
    add(layout.redirection(port), RETA_ENTRIES);
    add(layout.deliveryBell(port), 4);
  }
  return found.sort((a, b) => a[0] - b[0]);
}

describe('the layout of the shared memory', () => {
  test('has no two sections that overlap, and nothing behind the last', () => {
    fc.assert(
      fc.property(geometries, (geometry) => {
        const all = sections(geometry);
        for (let i = 1; i < all.length; i++) expect(all[i]![0]).toBeGreaterThanOrEqual(all[i - 1]![1]);
        expect(all.at(-1)![1]).toBe(layOut(geometry).bytes);
      }),
    );
  });

  test('puts rings and frames on pages of any size, and blocks on cache lines', () => {
    fc.assert(
      fc.property(geometries, (geometry) => {
        const layout = layOut(geometry);
        expect(layout.frames % geometry.pageSize).toBe(0);
        for (let queue = 0; queue < geometry.queues; queue++) {
          expect(layout.worker(queue) % LINE).toBe(0);
          expect(layout.queue(0, queue) % LINE).toBe(0);
          for (const ring of Object.values(Ring)) {
            expect(layout.ring(0, queue, 1, ring) % geometry.pageSize).toBe(0);
            expect(layout.ringRoom(ring) % geometry.pageSize).toBe(0);
          }
        }
      }),
    );
  });

  test('has room in each ring for what AF_XDP and io_uring put there', () => {
    fc.assert(
      fc.property(geometries, (geometry) => {
        const layout = layOut(geometry);
        const { ringEntries } = geometry;
        expect(layout.ringRoom(Ring.FILL)).toBeGreaterThanOrEqual(320 + ringEntries * 8);
        expect(layout.ringRoom(Ring.FILL)).toBeGreaterThanOrEqual((ringEntries / 2) * 16); // buffer ring
        expect(layout.ringRoom(Ring.RX)).toBeGreaterThanOrEqual(OWN_RING.desc + ringEntries * 16);
        expect(layout.ringRoom(Ring.TX)).toBeGreaterThanOrEqual((ringEntries / 4) * 64); // SQEs
        expect(layout.ringRoom(Ring.COMPLETION)).toBeGreaterThanOrEqual(OWN_RING.desc + ringEntries * 8);
      }),
    );
  });

  test('never lets two writers share a cache line', () => {
    const line = (offset: number): number => Math.floor(offset / LINE);
    const worker = [
      WORKER_WORDS.poolCount,
      WORKER_WORDS.heartbeat,
      WORKER_WORDS.lowOnFrames,
      WORKER_WORDS.turns,
      WORKER_AREAS.ledger + LEDGER_FIELDS.length * 4 - 1,
    ];
    const coordinator = [
      WORKER_WORDS.auditWanted,
      WORKER_WORDS.doorbell,
      WORKER_WORDS.supervisorFd,
      WORKER_WORDS.stuck,
    ];
    const anybody = [WORKER_WORDS.sleeping, WORKER_WORDS.inbox, WORKER_AREAS.relays + 4 * RELAYS - 1];
    for (const offset of worker) expect([...coordinator, ...anybody].map(line)).not.toContain(line(offset));
    for (const offset of coordinator) expect(anybody.map(line)).not.toContain(line(offset));

    expect(line(QUEUE_WORDS.owner)).not.toBe(line(QUEUE_WORDS.ack));
    expect(line(QUEUE_AREAS.counters)).not.toBe(line(QUEUE_WORDS.owner));

    const opened = [PATH_WORDS.driver, PATH_WORDS.reader, PATH_AREAS.xsk];
    const used = [
      ...[PATH_WORDS.uringFd, PATH_WORDS.staged, PATH_WORDS.consumed, PATH_AREAS.counters],
      ...[PATH_WORDS.readAddress, PATH_WORDS.readResult, PATH_WORDS.writeResult],
    ];
    for (const offset of used) expect([...opened, PATH_AREAS.kernel].map(line)).not.toContain(line(offset));

    expect(
      new Set([OWN_RING.producer, OWN_RING.consumer, OWN_RING.flags, OWN_RING.desc].map(line)).size,
    ).toBe(4);
  });

  test('has room for every counter, ledger field and journal field it names', () => {
    expect(QUEUE_AREAS.counters + QUEUE_COUNTERS.length * 8).toBeLessThanOrEqual(QUEUE_BYTES);
    expect(PATH_AREAS.counters + PATH_COUNTERS.length * 8).toBeLessThanOrEqual(PATH_AREAS.kernel);
    expect(PATH_AREAS.kernel + KERNEL_COUNTERS.length * 8).toBeLessThanOrEqual(PATH_BYTES);
    expect(WORKER_AREAS.ledger + LEDGER_FIELDS.length * 4).toBeLessThanOrEqual(WORKER_WORDS.heartbeat);
    expect(JOURNAL_FIELDS.length * 8).toBeLessThanOrEqual(layOut(tiny).journalRecordBytes);
  });
});

const tiny: Geometry = {
  pageSize: 4096,
  ports: 1,
  queues: 1,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};

test('an owner word decodes to what it was made from', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffff }),
      fc.constantFrom<PathId>(0, 1, 2, 3),
      fc.integer({ min: 0, max: 7 }),
      fc.integer({ min: 0, max: 7 }),
      (epoch, path, attached, reclaim) => {
        const word = ownerWord(epoch, path, attached, reclaim);
        expect([ownerEpoch(word), ownerPath(word), ownerAttached(word), ownerReclaim(word)]).toEqual([
          epoch,
          path,
          attached,
          reclaim,
        ]);
      },
    ),
  );
});
