/** The map of sockets of a device, while queues stop and start and the VF joins its NetVSC or leaves it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Bpf } from '../../../src/kernel/bpf.ts';
import { Unclaimed } from '../../../src/kernel/programs.ts';
import { SocketMap } from '../../../src/paths/af-xdp/socket-map.ts';
import { link } from '../../support/machine.ts';

const NETVSC = 3;
const SOCKETS = [40, 41, 42, 43];
const MAPS = { map: 20, gate: 21 };

/** The kernel's maps; `dropping`: the queues whose packets were dropped at some moment. */
class Maps {
  readonly slots = new Map<number, number>();
  readonly dropping = new Set<number>();
  gate: number = Unclaimed.PASS;

  get bpf(): Bpf {
    const bpf: Partial<Bpf> = {
      updateMap: (_, queue, fd) => {
        this.slots.set(queue, fd);
        this.#note();
      },
      deleteMap: (_, queue) => {
        this.slots.delete(queue);
        this.#note();
        return true;
      },
      setValue: (_, value) => {
        this.gate = value;
        this.#note();
      },
    };
    return bpf as Bpf;
  }

  #note(): void {
    if (this.gate !== Unclaimed.DROP) return;
    for (const queue of SOCKETS.keys()) if (!this.slots.has(queue)) this.dropping.add(queue);
  }
}

const vf = (joined: boolean) => link({ ifindex: 7, name: 'vf0', master: joined ? NETVSC : 0 });

describe('the map of sockets', () => {
  it('lacks a stopped queue where the kernel passes its packets on, and no step drops a packet', () => {
    const step = fc.record({ stopped: fc.uniqueArray(fc.nat(3)), joined: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1 }), (steps) => {
        const maps = new Maps();
        const map = new SocketMap(maps.bpf, MAPS, NETVSC);
        for (const { stopped, joined } of steps) {
          map.arm(vf(joined), SOCKETS, stopped);
          const expected = [0, 1, 2, 3].filter((queue) => !joined || !stopped.includes(queue));
          expect([...maps.slots.keys()].sort()).toEqual(expected);
          for (const [queue, fd] of maps.slots) expect(fd).toBe(SOCKETS[queue]);
          expect(maps.gate).toBe(joined ? Unclaimed.PASS : Unclaimed.DROP);
        }
        expect([...maps.dropping]).toEqual([]);
        map.disarm(vf(false), 4);
        expect([...maps.slots.keys()]).toEqual([]);
        expect(maps.gate).toBe(Unclaimed.PASS);
        expect([...maps.dropping]).toEqual([]);
      }),
    );
  });

  it('is not touched as long as only one of the two maps is open', () => {
    for (const fds of [
      { map: 20, gate: -1 },
      { map: -1, gate: -1 },
    ]) {
      const maps = new Maps();
      const refused = {
        ...maps.bpf,
        setValue: () => expect.unreachable(),
        deleteMap: () => expect.unreachable(),
      };
      new SocketMap(refused as unknown as Bpf, fds, NETVSC).disarm(vf(true), 4);
    }
  });

  it('lacks a stopped queue of one card alone, whose packets reach the handler through the tap', () => {
    const maps = new Maps();
    new SocketMap(maps.bpf, MAPS, 7).arm(vf(false), SOCKETS, [2]);
    expect([...maps.slots.keys()]).toEqual([0, 1, 3]);
  });
});
