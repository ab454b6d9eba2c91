/** The supervisor's half of a failover: what the workers of a port are ordered, and when. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ownership } from '../../../src/coordinator/ownership.ts';
import type { PathNotice, PathOrder } from '../../../src/coordinator/path-orders.ts';
import { PortFailover } from '../../../src/coordinator/port-failover.ts';
import { TwinpathError } from '../../../src/errors.ts';
import type { LinkState, Reading } from '../../../src/kernel/link-watch.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { ownerAttached, ownerPath, ownerReclaim, pathBit } from '../../../src/memory/bit-fields.ts';
import { type Failover, Journal, type Reason } from '../../../src/memory/journal.ts';
import { Doubt, PATH_NAMES, Path, type PathId, Reader } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';

const QUEUES = 2;
const QUEUE_NUMBERS = [0, 1];
const PATHS = [Path.HOST, Path.SYNTHETIC, Path.VF] as const;
const ETH0 = 2;
const VF0 = 7;
const shim = { write: () => 8 } as unknown as Shim;
const FINE: LinkState = { gone: false, wentDown: false, up: true, carrier: true };
const DOWN: LinkState = { gone: false, wentDown: true, up: false, carrier: false };
const GONE: LinkState = { ...DOWN, gone: true };
const NO_CARRIER: LinkState = { ...FINE, carrier: false };

const reading = (ifindex: number, link: Partial<LinkState>): Reading => ({
  ...{ lost: false, errno: 0, links: new Map([[ifindex, { ...FINE, ...link }]]) },
});

/** An ownership that tells of each order to leave a path, before it gives it. */
class NotedOwnership extends Ownership {
  readonly #leaving: (order: string) => void;

  constructor(memory: Memory, failovers: Failover[], leaving: (order: string) => void) {
    super(shim, memory, new Journal(memory), 0, (reported) => {
      if (reported.kind === 'path') failovers.push(reported.event);
    });
    this.#leaving = leaving;
  }

  override detach(gone: PathId, next: PathId, reason: Reason, detected: number): Promise<void> {
    this.#leaving(`${PATH_NAMES[gone]} to ${PATH_NAMES[next]}: ${reason}`);
    return super.detach(gone, next, reason, detected);
  }
}

/** A port of two queues without workers: the test acknowledges for them. */
class Rig {
  readonly memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: QUEUES, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  readonly failovers: Failover[] = [];
  readonly notices: PathNotice[] = [];
  readonly errors: unknown[] = [];
  /** Orders to leave a path, and who read the rings of the VF before each of them. */
  readonly left: string[] = [];
  readonly readersThen: number[][] = [];
  running: () => boolean | undefined = () => undefined;
  readonly failover: PortFailover;

  constructor() {
    this.failover = new PortFailover({
      memory: this.memory,
      port: 0,
      ownership: new NotedOwnership(this.memory, this.failovers, (order) => {
        this.left.push(order);
        this.readersThen.push(this.readers);
      }),
      isRunning: () => this.running(),
      tell: (notice) => this.notices.push(notice),
      attempt: (_, work) => {
        try {
          work();
        } catch (error) {
          this.errors.push(error);
        }
      },
    });
  }

  get word(): number {
    return this.memory.queue(0, 0).owner;
  }

  get owner(): string {
    return PATH_NAMES[ownerPath(this.word)];
  }

  attached(path: PathId): boolean {
    return (ownerAttached(this.word) & pathBit(path)) !== 0;
  }

  order(order: PathOrder): Promise<void> {
    return this.failover.execute(order);
  }

  acknowledge(queues = QUEUE_NUMBERS): void {
    for (const queue of queues) this.memory.queue(0, queue).ack = this.memory.queue(0, queue).owner;
    this.failover.checkWorkers();
  }

  /** Both paths serve and the VF is the owner. */
  async serve(reader: number = Reader.ASKED): Promise<this> {
    for (const queue of QUEUE_NUMBERS) this.slot(queue).reader = reader;
    for (const [path, key] of [
      [Path.SYNTHETIC, ETH0],
      [Path.VF, VF0],
    ] as const) {
      await this.given({ kind: 'attach', path, key });
      await this.given({ kind: 'ready', path });
    }
    await this.given({ kind: 'own', path: Path.VF, reason: 'path ready', detectedNanos: 1 });
    return this;
  }

  /** Gives an order that the workers carry out. */
  async given(order: PathOrder): Promise<void> {
    const done = this.order(order);
    await new Promise(setImmediate);
    this.acknowledge();
    await done;
  }

  slot(queue: number) {
    return this.memory.slot({ port: 0, queue, path: Path.VF });
  }

  get readers(): number[] {
    return QUEUE_NUMBERS.map((queue) => this.slot(queue).reader);
  }
}

const left = (reason: Reason, kickErrno = 0): PathNotice => ({
  ...{ kind: 'left', port: 0, path: Path.VF, reason, kickErrno },
});

describe('a lost path', () => {
  it.each([
    ['whose device disappears', GONE, 'link gone'],
    ['whose device disappears and returns at once', { ...FINE, gone: true, wentDown: true }, 'link gone'],
    ['whose link goes down', DOWN, 'link down'],
    ['whose link goes down and up again at once', { ...FINE, wentDown: true }, 'link down'],
    ['whose carrier is lost', NO_CARRIER, 'carrier lost'],
  ] as const)('%s is left in the same turn, and the coordinator is told once', async (_, state, reason) => {
    const rig = await new Rig().serve();
    expect(rig.owner).toBe('vf');
    rig.failover.linksRead(reading(VF0, state));
    expect([rig.owner, rig.attached(Path.VF), rig.attached(Path.SYNTHETIC)]).toEqual([
      ...['synthetic', false, true],
    ]);
    rig.failover.linksRead(reading(VF0, state));
    expect(rig.notices).toEqual([left(reason)]);
    rig.acknowledge();
    expect(rig.failovers.slice(-QUEUES).map(({ from, to, reason: why }) => [from, to, why])).toEqual(
      QUEUE_NUMBERS.map(() => ['vf', 'synthetic', reason]),
    );
  });

  it('is left when a kick has failed, with its errno', async () => {
    const rig = await new Rig().serve();
    rig.memory.words[rig.memory.queue(0, 1).kickErrnoAt(Path.VF)] = 100;
    rig.failover.checkWorkers();
    expect([rig.owner, rig.notices]).toEqual(['synthetic', [left('kick failed', 100)]]);
  });

  it('is not left for a message about another device, nor for one that says that all is well', async () => {
    const rig = await new Rig().serve();
    rig.failover.linksRead(reading(VF0 + 1, GONE));
    rig.failover.linksRead(reading(VF0, FINE));
    expect([rig.owner, rig.notices]).toEqual(['vf', []]);
  });

  it('leaves the queues to no path if the other one is lost with it', async () => {
    const rig = await new Rig().serve();
    rig.failover.linksRead({ links: new Map([ETH0, VF0].map((key) => [key, GONE])), lost: false, errno: 0 });
    expect(rig.left).toEqual(['synthetic to vf: link gone', 'vf to none: link gone']);
    rig.acknowledge();
    expect(rig.owner).toBe('none');
  });

  it('without carrier is left only if it is a VF', async () => {
    const rig = await new Rig().serve();
    rig.failover.linksRead(reading(ETH0, NO_CARRIER));
    expect(rig.attached(Path.SYNTHETIC)).toBe(true);
  });
});

describe('a VF that waits for its link', () => {
  const waiting = async (): Promise<Rig> => {
    const rig = new Rig();
    await rig.given({ kind: 'attach', path: Path.VF, key: VF0 });
    return rig;
  };

  it('is left if its device disappears, and not if its link is down', async () => {
    const rig = await waiting();
    rig.failover.linksRead(reading(VF0, DOWN));
    rig.failover.linksRead(reading(VF0, NO_CARRIER));
    expect(rig.attached(Path.VF)).toBe(true);
    rig.failover.linksRead(reading(VF0, GONE));
    expect([rig.attached(Path.VF), rig.notices]).toEqual([false, [left('link gone')]]);
  });

  it('and lost it while it was armed is left as soon as it is ready', async () => {
    const rig = await waiting();
    rig.failover.linksRead(reading(VF0, NO_CARRIER));
    void rig.order({ kind: 'ready', path: Path.VF });
    expect([rig.attached(Path.VF), rig.notices]).toEqual([false, [left('carrier lost')]]);
  });

  it('serves if the link was back before it was ready', async () => {
    const rig = await waiting();
    rig.failover.linksRead(reading(VF0, DOWN));
    rig.failover.linksRead(reading(VF0, FINE));
    void rig.order({ kind: 'ready', path: Path.VF });
    expect([rig.attached(Path.VF), rig.notices]).toEqual([true, []]);
  });

  it('serves if the kernel has lost the messages after one about its carrier', async () => {
    const rig = await waiting();
    rig.failover.linksRead(reading(VF0, NO_CARRIER));
    rig.failover.linksRead({ links: new Map(), lost: true, errno: 0 });
    void rig.order({ kind: 'ready', path: Path.VF });
    expect([rig.attached(Path.VF), rig.notices]).toEqual([true, []]);
  });

  it('whose kick failed before it was ready is left then', async () => {
    const rig = await waiting();
    rig.memory.words[rig.memory.queue(0, 0).kickErrnoAt(Path.VF)] = 100;
    rig.failover.checkWorkers();
    expect(rig.notices).toEqual([]);
    void rig.order({ kind: 'ready', path: Path.VF });
    expect(rig.notices).toEqual([left('kick failed', 100)]);
  });
});

describe('the transmit ring of a zero-copy driver', () => {
  it.each([
    ['of a device that is gone', GONE, undefined, Reader.STOPPED],
    ['of a device that does not run', DOWN, false, Reader.STOPPED],
    ['of a device that is up again, as its next message says', DOWN, true, Reader.DRIVER],
    ['of a device without carrier', NO_CARRIER, false, Reader.DRIVER],
  ] as const)(
    '%s is marked as stopped before the order, or not at all',
    async (_, state, running, expected) => {
      const rig = await new Rig().serve(Reader.DRIVER);
      rig.running = () => running;
      rig.failover.linksRead(reading(VF0, state));
      expect(rig.readersThen).toEqual([QUEUE_NUMBERS.map(() => expected)]);
      expect(rig.readers).toEqual(rig.readersThen[0]);
    },
  );

  it('is left although the kernel refuses to say whether the device runs', async () => {
    const rig = await new Rig().serve(Reader.DRIVER);
    rig.running = () => {
      throw new TwinpathError('ERR_PERMISSION', { syscall: 'ioctl(SIOCGIFFLAGS)' });
    };
    rig.failover.linksRead(reading(VF0, DOWN));
    expect([rig.owner, rig.attached(Path.VF), rig.notices]).toEqual([
      'synthetic',
      false,
      [left('link down')],
    ]);
    expect(rig.errors).toMatchObject([{ code: 'ERR_PERMISSION' }]);
  });

  it('that copies is not asked about', async () => {
    const rig = await new Rig().serve();
    rig.running = () => expect.fail('it was asked');
    rig.failover.linksRead(reading(VF0, DOWN));
    expect(rig.errors).toEqual([]);
  });
});

describe('a doubtful link', () => {
  const doubted = async (reader: number): Promise<Rig> => {
    const rig = await new Rig().serve(reader);
    Atomics.store(rig.memory.words, rig.slot(1).at('doubt'), Doubt.ASKED);
    return rig;
  };
  const answer = (rig: Rig): number => rig.memory.words[rig.slot(1).at('doubt')]!;

  it('of a driver that copies is the question of the coordinator, which may wait', async () => {
    const rig = await doubted(Reader.ASKED);
    rig.running = () => expect.fail('it was asked');
    rig.failover.checkWorkers();
    expect([answer(rig), rig.notices]).toEqual([Doubt.ASKED, [{ kind: 'doubted', port: 0 }]]);
  });

  it('of a zero-copy driver is answered at once if the device runs', async () => {
    const rig = await doubted(Reader.DRIVER);
    rig.running = () => true;
    rig.failover.checkWorkers();
    expect([answer(rig), rig.notices, rig.owner]).toEqual([Doubt.LINKED, [], 'vf']);
  });

  it('of a zero-copy driver has the path left at once if the device does not run', async () => {
    const rig = await doubted(Reader.DRIVER);
    rig.running = () => false;
    rig.failover.checkWorkers();
    expect([answer(rig), rig.notices, rig.owner]).toEqual([Doubt.ASKED, [left('kick failed')], 'synthetic']);
  });

  it('of a zero-copy driver whose device the kernel does not know is the question of the coordinator', async () => {
    const rig = await doubted(Reader.DRIVER);
    rig.failover.checkWorkers();
    expect([answer(rig), rig.notices]).toEqual([Doubt.ASKED, [{ kind: 'doubted', port: 0 }]]);
  });
});

describe('an order of the coordinator', () => {
  it('is answered when every worker has carried it out', async () => {
    const rig = new Rig();
    let answered = false;
    const done = rig.order({ kind: 'attach', path: Path.SYNTHETIC, key: ETH0 }).then(() => {
      answered = true;
    });
    await new Promise(setImmediate);
    rig.acknowledge([0]);
    await new Promise(setImmediate);
    expect(answered).toBe(false);
    rig.acknowledge([1]);
    await done;
  });

  it('to transmit on a path that was left meanwhile changes nothing and is answered', async () => {
    const rig = await new Rig().serve();
    rig.failover.linksRead(reading(VF0, GONE));
    const word = rig.word;
    const done = [
      rig.order({ kind: 'own', path: Path.VF, reason: 'path ready', detectedNanos: 1 }),
      rig.order({ kind: 'ready', path: Path.VF }),
      rig.order({ kind: 'detach', path: Path.VF, reason: 'link down', detectedNanos: 1 }),
    ];
    expect(rig.word).toBe(word);
    rig.acknowledge();
    await Promise.all(done);
  });

  it('to poll a path again is refused until its frames are reclaimed, and the coordinator is told again', async () => {
    const rig = await new Rig().serve();
    rig.failover.linksRead(reading(VF0, GONE));
    rig.acknowledge();
    const attach: PathOrder = { kind: 'attach', path: Path.VF, key: VF0 + 1 };
    await rig.order(attach);
    expect(rig.attached(Path.VF)).toBe(false);
    expect(rig.notices).toEqual([left('link gone'), left('link gone')]);
    expect(rig.failover.left).toEqual([{ port: 0, path: Path.VF, reason: 'link gone', kickErrno: 0 }]);
    await rig.given({ kind: 'reclaim', path: Path.VF });
    expect(rig.failover.left).toEqual([]);
    await rig.given(attach);
    expect(rig.attached(Path.VF)).toBe(true);
  });

  it('to reclaim the frames of a path waits until every worker has left it', async () => {
    const rig = await new Rig().serve();
    void rig.order({ kind: 'reclaim', path: Path.VF });
    await new Promise(setImmediate);
    rig.acknowledge([0]);
    await new Promise(setImmediate);
    expect([rig.attached(Path.VF), ownerReclaim(rig.word)]).toEqual([false, 0]);
    rig.acknowledge([1]);
    await new Promise(setImmediate);
    expect(ownerReclaim(rig.word)).toBe(pathBit(Path.VF));
  });
});

/** What may happen to a port. Orders come in any order: from several coordinators, of which each knows less or more. */
type Step =
  | { do: 'order'; kind: PathOrder['kind']; path: PathId }
  | { do: 'link'; key: number; state: LinkState }
  | { do: 'kick'; path: PathId; queue: number }
  | { do: 'acknowledge'; queue: number };

const key = (path: PathId): number => (path === Path.VF ? VF0 : ETH0);
const aPath = fc.constantFrom<PathId>(...PATHS);
const aStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('order' as const),
    kind: fc.constantFrom<PathOrder['kind']>('attach', 'ready', 'own', 'detach', 'reclaim', 'settle'),
    path: aPath,
  }),
  fc.record({
    do: fc.constant('link' as const),
    key: fc.constantFrom(ETH0, VF0),
    state: fc.constantFrom(FINE, DOWN, GONE, NO_CARRIER),
  }),
  fc.record({ do: fc.constant('kick' as const), path: aPath, queue: fc.nat(QUEUES - 1) }),
  fc.record({ do: fc.constant('acknowledge' as const), queue: fc.nat(QUEUES - 1) }),
);

function orderOf(kind: PathOrder['kind'], path: PathId): PathOrder {
  const cause = { reason: 'path failed', detectedNanos: 1 } as const;
  if (kind === 'settle') return { kind };
  if (kind === 'attach') return { kind, path, key: key(path) };
  return kind === 'ready' || kind === 'reclaim' ? { kind, path } : { kind, path, ...cause };
}

it('whatever comes in whatever order, no worker reclaims what it polls, and every order is answered', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(aStep, { maxLength: 60 }), async (steps) => {
      const rig = new Rig();
      const answers: Promise<void>[] = [];
      /** Per queue: the paths that its worker polls, as it has carried out the words it has seen. */
      const polls = QUEUE_NUMBERS.map(() => 0);
      const carryOut = (queue: number): void => {
        const { owner } = rig.memory.queue(0, queue);
        expect(ownerReclaim(owner) & (polls[queue]! | ownerAttached(owner))).toBe(0);
        const out = ownerPath(owner);
        expect(out === Path.NONE || (ownerAttached(owner) & pathBit(out)) !== 0).toBe(true);
        for (const path of PATHS) {
          const isNew = (ownerAttached(owner) & ~polls[queue]! & pathBit(path)) !== 0;
          if (isNew) rig.memory.words[rig.memory.queue(0, queue).kickErrnoAt(path)] = 0;
        }
        polls[queue] = ownerAttached(owner);
        rig.acknowledge([queue]);
      };
      for (const step of steps) {
        if (step.do === 'order') answers.push(rig.order(orderOf(step.kind, step.path)));
        else if (step.do === 'link') rig.failover.linksRead(reading(step.key, step.state));
        else if (step.do === 'acknowledge') carryOut(step.queue);
        else if ((polls[step.queue]! & pathBit(step.path)) !== 0) {
          rig.memory.words[rig.memory.queue(0, step.queue).kickErrnoAt(step.path)] = 100;
          rig.failover.checkWorkers();
        }
        if (step.do === 'link' && step.state.gone) {
          for (const path of PATHS) if (key(path) === step.key) expect(rig.attached(path)).toBe(false);
        }
        await new Promise(setImmediate);
      }
      let open = answers.length;
      for (const answer of answers) void answer.then(() => open--);
      // A reclaim is two orders, one after the other, and waits for those before it.
      for (let round = 0; round < 2 * steps.length + 2; round++) {
        for (const queue of QUEUE_NUMBERS) carryOut(queue);
        await new Promise(setImmediate);
      }
      expect(open).toBe(0);
    }),
    { numRuns: 300 },
  );
});
