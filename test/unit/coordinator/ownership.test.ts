/** Orders that outlive the coordinator that gave them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ownership } from '../../../src/coordinator/ownership.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { type Failover, Journal } from '../../../src/memory/journal.ts';
import { Path, type PathId } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';

const QUEUES = 3;
const shim = { write: () => 8 } as unknown as Shim;

class Rig {
  readonly memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: QUEUES, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  readonly failovers: Failover[] = [];

  coordinator(): Ownership {
    return new Ownership(shim, this.memory, new Journal(this.memory), 0, (reported) => {
      if (reported.kind === 'path') this.failovers.push(reported.event);
    });
  }

  owner(queue: number): number {
    return this.memory.queue(0, queue).owner;
  }

  /** As a coordinator that dies between two stores of one order leaves it. */
  putBack(queue: number, word: number): void {
    this.memory.queue(0, queue).owner = word;
  }

  /** The worker puts its order into effect. */
  acknowledge(queue: number): void {
    this.memory.queue(0, queue).ack = this.owner(queue);
  }
}

const all = [0, 1, 2];

describe('a coordinator that follows another', () => {
  it('knows who owns the queues and what is attached', async () => {
    const rig = new Rig();
    const first = rig.coordinator();
    void first.attach(Path.SYNTHETIC);
    void first.attach(Path.VF);
    void first.setOwner(Path.VF, 'path ready', 1);
    for (const queue of all) rig.acknowledge(queue);
    const second = rig.coordinator();
    second.resume();
    expect(second.owner).toBe(Path.VF);
    expect([Path.SYNTHETIC, Path.VF, Path.HOST].map((path) => second.isAttached(path))).toEqual([
      true,
      true,
      false,
    ]);
    await second.settled();
  });

  it('completes an order that had reached some queues only, and waits for all of them', async () => {
    for (const reached of [[], [0], [1], [0, 1], [1, 2]]) {
      const rig = new Rig();
      const first = rig.coordinator();
      void first.attach(Path.SYNTHETIC);
      void first.setOwner(Path.SYNTHETIC, 'start', 1);
      for (const queue of all) rig.acknowledge(queue);
      first.check();
      const before = all.map((queue) => rig.owner(queue));
      void first.attach(Path.VF);
      // An order that reached nobody was not given.
      for (const queue of all) if (!reached.includes(queue)) rig.putBack(queue, before[queue]!);
      const second = rig.coordinator();
      second.resume();
      expect(second.isAttached(Path.VF)).toBe(reached.length > 0);
      expect(new Set(all.map((queue) => rig.owner(queue))).size).toBe(1);
      let settled = false;
      const done = second.settled().then(() => {
        settled = true;
      });
      await new Promise(setImmediate);
      expect(settled).toBe(reached.length === 0);
      for (const queue of all) rig.acknowledge(queue);
      second.check();
      await done;
    }
  });

  it('records each switch once, also one that the dead coordinator began', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom<PathId>(Path.SYNTHETIC, Path.VF), { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat(2), { maxLength: 12 }),
        fc.nat(5),
        (path, acknowledged, dies) => {
          const rig = new Rig();
          let coordinator = rig.coordinator();
          void coordinator.attach(Path.SYNTHETIC);
          void coordinator.attach(Path.VF);
          path.forEach((next, i) => {
            if (coordinator.owner !== next) void coordinator.setOwner(next, 'path ready', 1);
            const queue = acknowledged[i];
            if (queue !== undefined) rig.acknowledge(queue);
            if (i === dies) {
              coordinator = rig.coordinator();
              coordinator.resume();
            }
            coordinator.check();
          });
          for (const queue of all) rig.acknowledge(queue);
          coordinator.check();
          const last = path.at(-1)!;
          for (const queue of all) {
            const own = rig.failovers.filter((failover) => failover.queue === queue);
            own.forEach(({ from }, i) => {
              expect(from).toBe(own[i - 1]?.to ?? 'none');
            });
            expect(own.at(-1)!.to).toBe(['none', 'synthetic', 'vf', 'host'][last]);
          }
        },
      ),
    );
  });
});
