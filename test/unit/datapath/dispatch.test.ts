import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Dispatch } from '../../../src/datapath/dispatch.ts';
import type { ForwardPort } from '../../../src/datapath/forward.ts';
import { DeliveredBurst } from '../../../src/delivered-burst.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { DELIVER, DROP, FORWARD, PASS, TEE, TX } from '../../../src/handler/handler.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { queueCounters, readCounters } from '../../../src/memory/counters.ts';
import { DeliveryReceiver, DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { maxSentBytes } from '../../../src/net/packet-size.ts';
import type { AttachedPath } from '../../../src/paths/attached-path.ts';
import { limitSentBytes } from '../../../src/paths/packet-limit.ts';

const FRAMES = 128;

/** A path with so much room, whose packets go out only when somebody flushes. */
function narrow(room: number, drains: boolean) {
  const staged: number[] = [];
  const sent: number[] = [];
  let longest = 0;
  const path = {
    room: (wanted: number) => Math.min(wanted, room - staged.length),
    push(offset: number, bytes: number) {
      if (staged.length >= room) throw new Error('pushed without room');
      longest = Math.max(longest, bytes);
      staged.push(offset);
    },
    flush() {
      if (drains) sent.push(...staged.splice(0));
      return 0;
    },
    complete() {},
  };
  return {
    path: { path: Path.SYNTHETIC, tx: path } as unknown as AttachedPath,
    all: () => [...sent, ...staged],
    longest: () => longest,
  };
}

it('every packet is sent or counted exactly once, for any verdicts and any free room', () => {
  const packet = fc.record({
    verdict: fc.constantFrom<number>(
      ...[DROP, TX, TX, FORWARD, FORWARD, PASS, DELIVER, DELIVER, TX | TEE, FORWARD | TEE, PASS | TEE],
      ...[TEE, DELIVER | TEE, 77, 254],
    ),
    target: fc.constantFrom(0, 1, 2, 200),
    bytes: fc.constantFrom(13, 14, 60, 60, 1014, 1018, 1019, 1518, 1519, 1792, 1793, 2000),
  });
  const rooms = fc.tuple(fc.nat(12), fc.nat(12), fc.nat(12), fc.boolean());
  const mtus = fc.tuple(fc.constantFrom(1000, 1500, 9000), fc.constantFrom(1000, 1500, 9000));
  fc.assert(
    fc.property(
      fc.array(packet, { minLength: 1, maxLength: 64, size: 'max' }),
      rooms,
      mtus,
      fc.nat(80),
      (packets, rooms, mtus, throwAt) => {
        const memory = Memory.create({
          ...{
            pageSize: 4096,
            ports: 2,
            queues: 1,
            frameSize: 2048,
            framesPerWorker: FRAMES,
            ringEntries: 64,
          },
        });
        const { layout } = memory;
        const limits = mtus.map((mtu) => maxSentBytes(mtu, layout.geometry.frameSize));
        for (const [port, maxPacketBytes] of limits.entries())
          limitSentBytes(memory, port, Path.SYNTHETIC, maxPacketBytes);
        const pool = new FramePool(memory, 0);
        pool.owners.recover([]);
        const burst = new Burst(memory, 0);
        const forwardTable = { ports: [] as ForwardPort[], relays: [] };
        let calls = 0;
        const dispatches = [0, 1].map(
          (port) =>
            new Dispatch({
              ...{ shim: loadShim(), memory, pool, burst, failed: () => {}, port, queue: 0, forwardTable },
              handler({ length, verdict, target, offset }) {
                for (let i = 0; i < length; i++) {
                  const at = (offset[i]! - layout.frames) >>> 11;
                  const wanted = packets[FRAMES - 1 - at]!;
                  burst.packet(i);
                  if (FRAMES - 1 - at === throwAt && calls++ === 0) throw new Error('as told');
                  verdict[i] = wanted.verdict;
                  target[i] = wanted.target;
                }
              },
              delivery: new DeliverySender(memory, pool, burst, port, 0),
            }),
        );
        forwardTable.ports = dispatches.map(({ forwardPort }) => forwardPort);
        const [first, second, host] = [rooms[0], rooms[1], rooms[2]].map((room) => narrow(room, rooms[3]));
        dispatches[0]!.out = first!.path;
        dispatches[1]!.out = second!.path;
        dispatches[0]!.host = host!.path;

        // Packet i lies in the i-th frame from the last, since the stack begins with it.
        packets.forEach(({ bytes }, i) => {
          burst.offset[i] = layout.frames + (FRAMES - 1 - i) * 2048 + HEADROOM;
          burst.bytes[i] = bytes;
          pool.setOwner(pool.peek(0), pool.hand);
          pool.remove(1);
        });
        const taken = new Set(packets.map((_, i) => FRAMES - 1 - i));
        expect(
          Array.from({ length: pool.count }, (_, i) => pool.peek(i) >>> 11).some((f) => taken.has(f)),
        ).toBe(false);
        dispatches[0]!.run(packets.length, 1);

        const out = [first!, second!, host!].map(({ all }) => all());
        expect(new Set(out.flat()).size).toBe(out.flat().length);
        for (const [port, way] of [first!, second!].entries()) {
          expect(way.longest()).toBeLessThanOrEqual(limits[port]!);
        }
        const [here, there] = [0, 1].map((port) => readCounters(memory, queueCounters(memory, port, 0)));
        const dropped = (of: Record<string, number>): number =>
          Object.entries(of).reduce((sum, [name, count]) => sum + (name.startsWith('drop') ? count : 0), 0);
        expect(packets.length + here!.accepted + here!.teed).toBe(
          dropped(here!) + here!.forwarded + here!.delivered + out[0]!.length + out[2]!.length,
        );
        expect(there!.accepted).toBe(dropped(there!) + out[1]!.length);
        const refused = (port: number, least: number): number =>
          packets.filter(({ verdict, target, bytes }, i) => {
            const way = verdict > TEE && verdict < (TEE | DELIVER) ? verdict & ~TEE : verdict;
            const by = way === TX ? 0 : way === FORWARD ? target : 2;
            return by === port && i !== throwAt && bytes > limits[port]! && bytes >= least;
          }).length;
        const none = mtus.map((_, port) => refused(port, 1793));
        expect([here!, there!].map(({ dropTooLong }) => dropTooLong)).toEqual(
          mtus.map((_, port) => refused(port, 0) - none[port]!),
        );
        expect(here!.dropHandlerError).toBe(throwAt < packets.length ? 1 : 0);
        const delivered = new DeliveredBurst(memory);
        const application = new DeliveryReceiver(memory, delivered, 0, 0);
        expect(application.read(256)).toBe(here!.delivered);
        const kept = packets.map(({ verdict }, i) => (i === throwAt ? DROP : verdict));
        const wanted = kept.filter((verdict) => verdict > TEE && verdict < (TEE | DELIVER)).length;
        expect(here!.teed + here!.teeFull).toBe(wanted);
        expect(here!.delivered + here!.dropDeliverFull - here!.teed).toBe(
          kept.filter((verdict) => verdict === DELIVER).length,
        );
        // The application has its frames until it releases them.
        expect(pool.count + out.flat().length + here!.delivered).toBe(FRAMES);
        application.release(here!.delivered);
        dispatches[0]!.delivery.collect();
        expect(pool.count + out.flat().length).toBe(FRAMES);
      },
    ),
    { numRuns: 300 },
  );
});
