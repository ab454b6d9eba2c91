/** Orders to workers, and what a coordinator that follows another learns of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ownership } from '../../../src/coordinator/ownership.ts';
import { OwnershipClient } from '../../../src/coordinator/ownership-client.ts';
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
  readonly ownership = new Ownership(shim, this.memory, new Journal(this.memory), 0, (reported) => {
    if (reported.kind === 'path') this.failovers.push(reported.event);
  });

  /** The end of a new coordinator. */
  coordinator(): OwnershipClient {
    return new OwnershipClient(this.memory, 0, async () => {});
  }

  owner(queue: number): number {
    return this.memory.queue(0, queue).owner;
  }

  /** The worker puts its order into effect. */
  acknowledge(queue: number): void {
    this.memory.queue(0, queue).ack = this.owner(queue);
  }
}

const all = [0, 1, 2];

describe('a coordinator that follows another', () => {
  it('knows who owns the queues and what is attached', () => {
    const rig = new Rig();
    void rig.ownership.attach(Path.SYNTHETIC);
    void rig.ownership.attach(Path.VF);
    void rig.ownership.setOwner(Path.VF, 'path ready', 1);
    const second = rig.coordinator();
    expect(second.owner).toBe(Path.VF);
    expect([Path.SYNTHETIC, Path.VF, Path.HOST].map((path) => second.isAttached(path))).toEqual([
      true,
      true,
      false,
    ]);
  });

  it('knows which path was left while there was no coordinator, and who owns the queues since', () => {
    const rig = new Rig();
    void rig.ownership.attach(Path.SYNTHETIC);
    void rig.ownership.attach(Path.VF);
    void rig.ownership.setOwner(Path.VF, 'path ready', 1);
    void rig.ownership.detach(Path.VF, Path.SYNTHETIC, 'link gone', 1);
    const second = rig.coordinator();
    expect([second.owner, second.isAttached(Path.VF)]).toEqual([Path.SYNTHETIC, false]);
  });
});

it('an order is carried out when the last of the workers has acknowledged it, or a later one', async () => {
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 0, 2],
  ]) {
    const rig = new Rig();
    const resolved: string[] = [];
    void rig.ownership.attach(Path.SYNTHETIC).then(() => resolved.push('first'));
    rig.acknowledge(order[0]!);
    rig.ownership.check();
    void rig.ownership.attach(Path.VF).then(() => resolved.push('second'));
    for (const queue of order.slice(1)) {
      expect(resolved).toEqual([]);
      rig.acknowledge(queue);
      rig.ownership.check();
      await new Promise(setImmediate);
    }
    expect(resolved).toEqual(['first']);
    rig.acknowledge(order[0]!);
    rig.ownership.check();
    await new Promise(setImmediate);
    expect(resolved).toEqual(['first', 'second']);
  }
});

it('each switch is recorded once for each queue, whenever the workers acknowledge', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom<PathId>(Path.SYNTHETIC, Path.VF), { minLength: 1, maxLength: 6 }),
      fc.array(fc.nat(2), { maxLength: 12 }),
      (path, acknowledged) => {
        const { ownership, ...rig } = new Rig();
        const acknowledge = (queue: number): void => {
          rig.memory.queue(0, queue).ack = rig.memory.queue(0, queue).owner;
        };
        void ownership.attach(Path.SYNTHETIC);
        void ownership.attach(Path.VF);
        path.forEach((next, i) => {
          if (ownership.owner !== next) void ownership.setOwner(next, 'path ready', 1);
          const queue = acknowledged[i];
          if (queue !== undefined) acknowledge(queue);
          ownership.check();
        });
        for (const queue of all) acknowledge(queue);
        ownership.check();
        const switches = path.filter((next, i) => next !== path[i - 1]);
        for (const queue of all) {
          const own = rig.failovers.filter((failover) => failover.queue === queue);
          own.forEach(({ from }, i) => {
            expect(from).toBe(own[i - 1]?.to ?? 'none');
          });
          expect(own.map(({ to }) => to)).toEqual(
            switches.map((to) => ['none', 'synthetic', 'vf', 'host'][to]),
          );
        }
      },
    ),
  );
});
