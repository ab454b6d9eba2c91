/** Which of two paths is handled first: rounds of a worker against a host that moves a flow between them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PathOrder, SETTLED } from '../../../src/datapath/path-order.ts';
import { BURST, Path, type PathId } from '../../../src/memory/layout.ts';

const SYNTHETIC = 0;
const VF = 1;
/** A packet that is no part of the flow: a broadcast. */
const OTHER = -1;

/** A path's ring; `portion` is what it hands over at once, as a tap does. */
class Ring {
  readonly path: PathId;
  readonly rx = this;
  readonly packets: number[] = [];
  portion = BURST;

  constructor(path: PathId) {
    this.path = path;
  }

  ready(max: number): number {
    return Math.min(max, this.portion, this.packets.length);
  }

  isEmpty(): boolean {
    return this.packets.length === 0;
  }
}

/** A worker between two rings, and a host that numbers what it delivers. */
class Machine {
  readonly rings = [new Ring(Path.SYNTHETIC), new Ring(Path.VF)] as const;
  readonly handled: number[] = [];
  readonly order = new PathOrder<Ring>((path, most) => {
    const packets = path.packets.splice(0, path.ready(most));
    this.handled.push(...packets.filter((packet) => packet !== OTHER));
    return packets.length;
  });
  dataPath: 0 | 1 = SYNTHETIC;
  #sent = 0;
  #first = 0;

  constructor() {
    this.attach();
  }

  attach(): void {
    this.order.arrange(this.rings[SYNTHETIC], this.rings[VF]);
  }

  send(count: number): void {
    for (let i = 0; i < count; i++) this.rings[this.dataPath].packets.push(this.#sent++);
  }

  broadcast(): void {
    this.rings[SYNTHETIC].packets.push(OTHER);
  }

  /** The host moves the flow, if as much of it has been handled on this path as the promise asks for. */
  move(): void {
    if (this.handled.length < this.#first + SETTLED) return;
    this.dataPath = this.dataPath === VF ? SYNTHETIC : VF;
    this.#first = this.#sent;
  }

  get sent(): number {
    return this.#sent;
  }

  settle(): void {
    while (this.rings.some((ring) => !ring.isEmpty())) this.order.poll();
  }

  expectInOrder(): void {
    expect(this.handled).toEqual(Array.from(this.handled, (_, number) => number));
  }
}

describe('packets of a flow that the host moves from path to path', () => {
  it('are handled in the order they came in, when a round is all that a worker gets between two moves', () => {
    const machine = new Machine();
    for (let move = 0; move < 6; move++) {
      machine.send(SETTLED);
      machine.order.poll();
      machine.send(3);
      machine.move();
      machine.send(3);
      machine.order.poll();
    }
    machine.settle();
    expect(machine.handled).toHaveLength(machine.sent);
    machine.expectInOrder();
  });

  it('are handled in order of arrival if the VF receives them while the NetVSC receives others', () => {
    const machine = new Machine();
    machine.send(SETTLED);
    machine.order.poll();
    machine.move();
    for (let round = 0; round < 100; round++) {
      machine.send(SETTLED);
      if (round % 7 === 0) machine.order.poll();
      machine.broadcast();
      machine.order.poll();
      for (let idle = 0; idle < round; idle++) machine.order.poll();
    }
    machine.send(5);
    machine.move();
    machine.send(5);
    machine.settle();
    expect(machine.handled).toHaveLength(machine.sent);
    machine.expectInOrder();
  });

  it('are handled in the order they came in, also if the paths are arranged anew meanwhile', () => {
    const machine = new Machine();
    machine.send(SETTLED);
    machine.order.poll();
    machine.move();
    machine.send(SETTLED);
    machine.order.poll();
    machine.attach(); // the other path, or the host's, has changed
    machine.send(1);
    machine.move();
    machine.send(1);
    machine.settle();
    expect(machine.handled).toHaveLength(machine.sent);
    machine.expectInOrder();
  });

  it('are handled in the order they came in, whenever the worker makes its rounds', () => {
    const step = fc.oneof(
      fc.record({ what: fc.constant('send' as const), count: fc.integer({ min: 1, max: BURST }) }),
      fc.record({ what: fc.constant('polls' as const), count: fc.integer({ min: 1, max: 2 }) }),
      fc.record({ what: fc.constant('move' as const), count: fc.integer({ min: 1, max: SETTLED }) }),
      fc.record({ what: fc.constant('portion' as const), count: fc.integer({ min: 1, max: BURST }) }),
      fc.record({ what: fc.constant('arrange' as const), count: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const machine = new Machine();
        for (const { what, count } of steps) {
          if (what === 'send') machine.send(count);
          else if (what === 'move') {
            machine.send(count);
            machine.move();
            machine.send(count);
          } else if (what === 'portion') machine.rings[SYNTHETIC].portion = count;
          else if (what === 'arrange') machine.attach();
          else for (let i = 0; i < count; i++) machine.order.poll();
        }
        machine.settle();
        expect(machine.handled).toHaveLength(machine.sent);
        machine.expectInOrder();
      }),
      { numRuns: 300 },
    );
  });

  it('reach the worker through each path, even if the other path is always full', () => {
    const machine = new Machine();
    machine.broadcast();
    machine.rings[VF].packets.push(OTHER);
    let rounds = 0;
    while (!machine.rings[VF].isEmpty()) {
      for (let i = 0; i < 4 * BURST; i++) machine.broadcast();
      machine.order.poll();
      expect(++rounds).toBeLessThan(100);
    }
  });
});

describe('packets that another worker hands over', () => {
  /** A round as a worker makes it: its rings, then the handoff ring of the other one, up to a burst. */
  function round(machine: Machine, handoff: { path: PathId; packet: number }[]): void {
    machine.order.poll();
    const head = handoff[0];
    if (head === undefined || machine.order.holds(head.path)) return;
    const taken = handoff.splice(0, BURST);
    machine.handled.push(...taken.map(({ packet }) => packet));
  }

  it('that came through the new path wait until those of the old path are handled', () => {
    for (const backlog of [1, BURST, 3 * BURST, 2000]) {
      const machine = new Machine();
      machine.dataPath = VF;
      machine.send(SETTLED);
      machine.settle(); // the VF carries the traffic
      machine.send(backlog);
      const handoff = [0, 1, 2].map((i) => ({ path: Path.SYNTHETIC, packet: machine.sent + i }));
      for (let i = 0; handoff.length > 0; i++) {
        expect(i).toBeLessThan(100);
        round(machine, handoff);
      }
      machine.expectInOrder();
      expect(machine.handled).toHaveLength(machine.sent + 3);
    }
  });

  it('that came through the path with the traffic do not wait, and nothing waits for ever', () => {
    const machine = new Machine();
    machine.send(1);
    expect(machine.order.holds(Path.SYNTHETIC)).toBe(false);
    expect(machine.order.holds(Path.HOST)).toBe(false);
    let rounds = 0;
    while (machine.order.holds(Path.VF)) expect(++rounds).toBeLessThan(1000);
    expect(rounds).toBeGreaterThan(0);
  });
});
