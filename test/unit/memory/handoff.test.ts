import fc from 'fast-check';
import { expect, it } from 'vitest';
import { HandoffKind, handoffKind, handoffOwner, handoffPath } from '../../../src/memory/bit-fields.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HandoffReceiver, HandoffSender } from '../../../src/memory/handoff.ts';
import { Memory } from '../../../src/memory/shared.ts';

const FRAMES = 4096;
const [FROM, TO] = [0, 1];

function memory(): Memory {
  return Memory.create({
    ...{ pageSize: 4096, ports: 2, queues: 2, frameSize: 2048, framesPerWorker: FRAMES, ringEntries: 64 },
  });
}

interface Packet {
  readonly offset: number;
  readonly bytes: number;
  readonly kind: number;
  readonly path: 1 | 2;
  readonly hash: number;
}

const step = fc.record({
  what: fc.constantFrom('push', 'push', 'commit', 'take', 'take in part', 'sender dies', 'receiver dies'),
  count: fc.integer({ min: 1, max: 90 }),
  kind: fc.constantFrom(HandoffKind.PACKET, HandoffKind.SEND),
  path: fc.constantFrom(1 as const, 2 as const),
});

it('a handoff ring agrees with its model for any order of pushes, takes and deaths', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const shared = memory();
      const { layout } = shared;
      const pools = [FROM, TO].map((queue) => new FramePool(shared, queue));
      for (const pool of pools) pool.owners.recover([]);
      let sender = new HandoffSender(shared, pools[FROM]!, 1, FROM, TO);
      let receiver = new HandoffReceiver(shared, pools[TO]!, 1, FROM, TO);
      let staged: Packet[] = [];
      let published: Packet[] = [];
      let next = 0;
      const [offset, bytes, hash] = [new Int32Array(64), new Int32Array(64), new Int32Array(64)];

      for (const { what, count, kind, path } of steps) {
        if (what === 'push') {
          const room = layout.handoffEntries - published.length - staged.length;
          expect(sender.room(count)).toBe(Math.min(count, room));
          for (let i = 0; i < Math.min(count, room); i++) {
            const at = layout.frames + (next++ % FRAMES) * 2048 + 256;
            const packet = { offset: at, bytes: 60 + i, kind, path, hash: -next };
            sender.push(packet.offset, packet.bytes, kind, path, packet.hash);
            staged.push(packet);
          }
        } else if (what === 'commit') {
          expect(sender.commit()).toBe(staged.length);
          published.push(...staged.splice(0));
        } else if (what === 'sender dies') {
          sender = new HandoffSender(shared, pools[FROM]!, 1, FROM, TO);
          staged = []; // their frames name the handoff ring, and no entry of it does: the pool takes them back
        } else if (what === 'receiver dies') {
          receiver = new HandoffReceiver(shared, pools[TO]!, 1, FROM, TO);
        } else {
          const most = Math.min(count, 64);
          expect(receiver.ready(most)).toBe(Math.min(most, published.length));
          if (published.length === 0) continue;
          const { meta } = receiver;
          const got = receiver.receive(offset, bytes, hash, most);
          const alike = published.findIndex(
            (one) => one.kind !== published[0]!.kind || one.path !== published[0]!.path,
          );
          expect(got).toBe(Math.min(most, alike < 0 ? published.length : alike));
          for (let i = 0; i < got; i++) {
            expect({
              offset: offset[i],
              bytes: bytes[i],
              kind: handoffKind(meta),
              path: handoffPath(meta),
              hash: hash[i],
            }).toEqual(published[i]);
          }
          // Passed on one after the other; who dies in the middle has passed on the first few.
          const passed = what === 'take' ? got : Math.floor(got / 2);
          for (let i = 0; i < passed; i++) pools[TO]!.setOwner(offset[i]! - layout.frames, pools[TO]!.hand);
          published = published.slice(passed);
          if (what === 'take') receiver.release(got);
          else receiver = new HandoffReceiver(shared, pools[TO]!, 1, FROM, TO);
        }
        expect([sender.staged, sender.pending()]).toEqual([staged.length, staged.length + published.length]);
        const named: number[] = [];
        sender.enumerate((address) => named.push(address));
        expect(named).toEqual(published.map((one) => one.offset - layout.frames));
        for (const address of named) expect(pools[FROM]!.ownerOf(address)).toBe(handoffOwner(FROM, TO));
      }
    }),
    { numRuns: 60 },
  );
});

it('a handoff ring reports when all packets pushed before a mark are taken, regardless of later ones', () => {
  const shared = memory();
  const pools = [FROM, TO].map((queue) => new FramePool(shared, queue));
  const sender = new HandoffSender(shared, pools[FROM]!, 0, FROM, TO);
  const receiver = new HandoffReceiver(shared, pools[TO]!, 0, FROM, TO);
  const push = (frame: number): void =>
    sender.push(shared.layout.frames + frame * 2048, 60, HandoffKind.SEND, 2, 0);
  expect(sender.hasPassed(sender.cursor)).toBe(true);
  push(1);
  const { cursor } = sender;
  expect(sender.hasPassed(cursor)).toBe(false);
  sender.commit();
  push(2);
  sender.commit();
  expect(sender.hasPassed(cursor)).toBe(false);
  receiver.ready(1);
  receiver.release(1);
  expect(sender.hasPassed(cursor)).toBe(true);
  expect(sender.hasPassed(sender.cursor)).toBe(false);
});
