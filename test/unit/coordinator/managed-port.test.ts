import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { initial } from '../../../src/configuration.ts';
import { ManagedPort } from '../../../src/coordinator/managed-port.ts';
import type { Endpoint, PortNetwork } from '../../../src/coordinator/network.ts';
import type { OwnershipClient } from '../../../src/coordinator/ownership-client.ts';
import type { LeftPath } from '../../../src/coordinator/path-orders.ts';
import { TwinpathError } from '../../../src/errors.ts';
import { NOTHING_DROPPED } from '../../../src/memory/counters.ts';
import type { Reason } from '../../../src/memory/journal.ts';
import { Doubt, PATH_NAMES, Path, type PathId } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import type { PathDevice } from '../../../src/paths/device.ts';

// The pauses between two tries pass as the test says, and not by the machine's clock.
beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

const memory = Memory.create({
  ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
});

test('a path that cannot be opened is tried again even if the other path asks for its own retry', async () => {
  const tries: Record<PathId, number> = { 0: 0, 1: 0, 2: 0, 3: 0 };
  const device = (path: PathId): PathDevice => ({
    description: { driver: 'memory', device: `path${path}`, mode: '', redirect: '' },
    holdings: {},
    changed() {},
    open() {
      tries[path]++;
      throw new TwinpathError('ERR_DEVICE_BUSY', { device: `path${path}` });
    },
    arm() {},
    disarm() {},
    close() {},
    dropped: () => NOTHING_DROPPED,
  });
  const network: PortNetwork = {
    device: 'eth0',
    observe: () => [],
    mac: '',
    endpoint: (path) => ({ key: path, name: `path${path}`, up: true, carrier: true }),
    query: (path) => ({ key: path, name: `path${path}`, up: true, carrier: true }),
    holdings: {},
    make: (path) => device(path),
    adopt: (path) => device(path),
  };
  const ownership = {
    owner: Path.NONE,
    isAttached: () => false,
    reclaim: async () => {},
    settled: async () => {},
  } as unknown as OwnershipClient;
  const port = new ManagedPort(memory, 0, network, ownership, {
    report() {},
    save() {},
    run: (_, work) => void work(),
    configuration: initial({}),
    spread: async () => {},
  });
  await expect(port.start()).rejects.toMatchObject({ code: 'ERR_DEVICE_BUSY' });
  expect(tries).toMatchObject({ [Path.SYNTHETIC]: 1, [Path.VF]: 1 });
  for (let wanted = 2; wanted <= 10; wanted++) {
    for (let step = 0; step < 100 && Math.min(tries[Path.SYNTHETIC], tries[Path.VF]) < wanted; step++) {
      await vi.advanceTimersByTimeAsync(50);
    }
    expect(tries[Path.SYNTHETIC]).toBeGreaterThanOrEqual(wanted);
    expect(tries[Path.VF]).toBeGreaterThanOrEqual(wanted);
  }
  await port.close();
});

/** A port whose VF is a card: what is done to it is noted, and its link is as the test says. */
class Card {
  readonly done: string[] = [];
  readonly errors: string[] = [];
  readonly news: string[] = [];
  readonly details: string[] = [];
  vf: Endpoint | undefined = { key: 7, name: 'vf0', up: true, carrier: true };
  /** What messages have told of it by now. */
  told: Endpoint | undefined;
  outlastsLink = true;
  opening = (): void => {};
  arming = (_path: PathId): void => {};
  openingQueues = (): void => {};
  looking = (): void => {};
  attached = 0;
  /** As the supervisor was told. */
  ready = 0;
  owner: PathId = Path.NONE;
  readonly port: ManagedPort;

  constructor() {
    const device = (path: PathId): PathDevice => {
      const note = (what: string) => (): void => {
        if (path === Path.VF) this.done.push(what);
      };
      return {
        description: { driver: 'memory', device: `path${path}`, mode: '', redirect: '' },
        ...{ holdings: {}, outlastsLink: this.outlastsLink, changed() {}, dropped: () => NOTHING_DROPPED },
        open: () => {
          note('open')();
          if (path === Path.VF) this.opening();
        },
        arm: () => {
          note('arm')();
          this.arming(path);
        },
        ...{ disarm() {}, close: note('close') },
        closeQueues: note('close queues'),
        openQueues: () => {
          note('open queues')();
          this.openingQueues();
        },
      };
    };
    const synthetic = { key: 1, name: 'eth0', up: true, carrier: true };
    const seen = (path: PathId, vf: Endpoint | undefined): Endpoint | undefined =>
      path === Path.VF ? vf : path === Path.SYNTHETIC ? synthetic : undefined;
    const network: PortNetwork = {
      ...{ device: 'eth0', mac: '', holdings: {}, observe: () => [], make: device, adopt: device },
      endpoint: (path) => seen(path, this.told),
      query: (path) => {
        this.looking();
        return seen(path, this.vf);
      },
    };
    const order = async (path: PathId, reason?: string): Promise<void> => {
      if (reason !== undefined) this.done.push(`to ${PATH_NAMES[path]}: ${reason}`);
      if (reason !== undefined) this.owner = path;
    };
    const isAttached = (path: PathId): boolean => (this.attached & (1 << path)) !== 0;
    const ownership = {
      ...{ isAttached, reclaim: async () => {}, settled: async () => {} },
      attach: async (path: PathId) => {
        this.attached |= 1 << path;
      },
      ready: (path: PathId) => {
        this.ready |= 1 << path;
      },
      setOwner: order,
      left: (path: PathId) => {
        this.attached &= ~(1 << path);
        this.ready &= ~(1 << path);
      },
      detach: (gone: PathId, reason: string) => {
        ownership.left(gone);
        const others = [Path.SYNTHETIC, Path.VF].filter((path) => this.ready & (1 << path));
        return gone === this.owner ? order(others[0] ?? Path.NONE, reason) : order(this.owner);
      },
    };
    Object.defineProperty(ownership, 'owner', { get: () => this.owner });
    this.port = new ManagedPort(memory, 0, network, ownership as unknown as OwnershipClient, {
      report: ({ kind, event }) => {
        if (kind === 'link' && event.path === 'vf') this.news.push(event.state);
        if (kind === 'link' && event.state === 'down') this.details.push(event.detail ?? '');
        if (kind === 'error') this.errors.push(event.code);
      },
      save() {},
      configuration: initial({}),
      spread: async () => {},
      run: (_, work) => {
        try {
          void work();
        } catch (error) {
          this.errors.push((error as TwinpathError).code);
        }
      },
    });
  }

  /** The link changes, and the kernel says so. */
  async tell(link: Partial<Endpoint> | undefined, gone?: number): Promise<void> {
    this.vf = link === undefined ? undefined : { key: 7, name: 'vf0', up: true, carrier: true, ...link };
    this.told = this.vf;
    await this.port.changed(new Set(gone === undefined ? [] : [gone]));
  }
}

const SERVES = ['arm', 'to vf: path ready'];

test('a card that loses its carrier because it is opened is opened once, and serves when the carrier returns', async () => {
  const card = new Card();
  await card.port.start();
  card.opening = () => {
    card.vf = { ...card.vf!, carrier: false };
  };
  await card.tell({});
  expect(card.done).toEqual(['to synthetic: start', 'open']);
  await card.tell({ carrier: false });
  await card.tell({ carrier: false });
  expect(card.done).toEqual(['to synthetic: start', 'open']);
  await card.tell({});
  expect(card.done).toEqual(['to synthetic: start', 'open', ...SERVES]);
  expect([card.news, card.errors]).toEqual([['up'], []]);
  await card.port.close();
});

test('a card whose carrier loss is reported only after it serves is left and used again, but not opened again', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({});
  for (let blink = 0; blink < 5; blink++) {
    card.done.length = 0;
    await card.tell({ carrier: false });
    expect(card.done).toEqual(['to synthetic: carrier lost', 'close queues', 'open queues']);
    await card.tell({ up: false, carrier: false });
    await card.tell({});
    expect(card.done.slice(3)).toEqual(SERVES);
  }
  await card.tell(undefined, 7);
  expect(card.done.slice(5)).toEqual(['to synthetic: link gone', 'close']);
  expect(card.errors).toEqual([]);
  await card.port.close();
});

test('a card whose queues the kernel still holds is armed again later, without a new opening', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({});
  let busy = 3;
  card.openingQueues = () => {
    if (busy-- > 0) throw new TwinpathError('ERR_DEVICE_BUSY', { device: 'vf0' });
  };
  await card.tell({ carrier: false });
  await card.tell({});
  expect(card.done.filter((what) => what === 'open')).toHaveLength(1);
  expect(card.done.slice(-3)).toEqual(['open queues', ...SERVES]);
  expect(card.errors).toEqual([]);
  await card.port.close();
});

test('a card whose carrier was lost for a moment without a message serves', async () => {
  const card = new Card();
  await card.port.start();
  card.opening = () => {
    card.vf = { ...card.vf!, carrier: false };
  };
  await card.tell({});
  card.vf = { ...card.vf!, carrier: true };
  expect(card.news).toEqual([]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(card.done.slice(2)).toEqual(SERVES);
  await card.port.close();
});

test('a card that is still down is prepared, so that nothing is reset when its host delivers through it', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({ up: false, carrier: false });
  await card.tell({ carrier: false });
  expect(card.done).toEqual(['to synthetic: start', 'open']);
  expect(card.attached & (1 << Path.VF), 'the workers have filled its rings').not.toBe(0);
  await card.tell({});
  expect(card.done.slice(2)).toEqual(SERVES);
  await card.port.close();
});

test('a card that cannot be opened while it is down is opened when it is up, and the first failure is not reported', async () => {
  const card = new Card();
  await card.port.start();
  card.opening = () => {
    if (!card.vf!.up) throw new TwinpathError('ERR_KERNEL', { syscall: 'bind(AF_XDP)', errno: 100 });
  };
  for (let time = 0; time < 3; time++) await card.tell({ up: false, carrier: false });
  expect(card.done).toEqual(['to synthetic: start', 'open', 'close']);
  await card.tell({});
  expect(card.done.slice(3)).toEqual(['open', ...SERVES]);
  expect(card.errors).toEqual([]);
  await card.port.close();
});

test('a card whose driver reads the rings is closed with its link, and made ready again', async () => {
  const card = new Card();
  card.outlastsLink = false;
  await card.port.start();
  await card.tell({});
  await card.tell({ up: false, carrier: false });
  await card.tell({});
  const opened = ['open', ...SERVES];
  expect(card.done.slice(1)).toEqual([...opened, 'to synthetic: link down', 'close', ...opened]);
  await card.port.close();
});

test('a card whose state cannot be read when its link goes down is closed, reported and opened again', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({});
  card.done.length = 0;
  card.looking = () => {
    throw new TwinpathError('ERR_KERNEL', { syscall: 'RTM_GETLINK', errno: 105 });
  };
  await card.tell({ carrier: false });
  expect(card.done.slice(0, 2)).toEqual(['to synthetic: carrier lost', 'close']);
  expect(card.errors).toEqual(['ERR_KERNEL']);
  card.looking = () => {};
  await card.tell({});
  expect(card.done.slice(-2)).toEqual(SERVES);
  await card.port.close();
});

test('a card without a link is not polled while it waits for one', async () => {
  const card = new Card();
  await card.port.start();
  let looks = 0;
  card.looking = () => looks++;
  await card.tell({ up: false, carrier: false });
  await vi.advanceTimersByTimeAsync(60_000);
  expect([looks, card.done.filter((what) => what === 'open').length]).toEqual([0, 1]);
  await card.port.close();
});

test('no path is opened before the workers have started, whatever the links do', async () => {
  const card = new Card();
  await card.tell({});
  await card.tell({ carrier: false });
  await card.tell({});
  expect(card.done).not.toContain('open');
  await card.port.start();
  expect(card.done).toContain('open');
  await card.port.close();
});

test('a card that goes, or is replaced, while its link is away is closed', async () => {
  for (const next of [undefined, { key: 8, carrier: false }]) {
    const card = new Card();
    await card.port.start();
    await card.tell({});
    await card.tell({ carrier: false });
    card.done.length = 0;
    await card.tell(next, next === undefined ? 7 : undefined);
    expect(card.done.slice(0, 1)).toEqual(['close']);
    await card.port.close();
    expect(card.done.filter((what) => what === 'open')).toHaveLength(next === undefined ? 0 : 1);
    const closed = card.done.filter((what) => what === 'close');
    expect(closed).toHaveLength(next === undefined ? 1 : 2);
  }
});

test('a card that drops packets is checked before the kernel reports the carrier loss', async () => {
  const { words } = memory;
  const doubt = memory.slot({ port: 0, queue: 0, path: Path.VF }).at('doubt');
  const card = new Card();
  await card.port.start();
  await card.tell({});
  card.done.length = 0;
  words[doubt] = Doubt.ASKED;
  card.port.checkLinks();
  await card.port.changed();
  expect([words[doubt], card.done]).toEqual([Doubt.LINKED, []]);
  words[doubt] = Doubt.ASKED;
  card.vf = { ...card.vf!, carrier: false };
  card.port.checkLinks();
  await card.port.settingsChanged(undefined);
  expect(card.done.slice(0, 1)).toEqual(['to synthetic: carrier lost']);
  words[doubt] = Doubt.NONE;
  await card.port.close();
});

test('a port that starts with a VF present can send before it receives, and while the VF is opened', async () => {
  const card = new Card();
  card.told = card.vf;
  const seen: string[] = [];
  card.arming = (path) => void seen.push(`${PATH_NAMES[path]} armed: ${PATH_NAMES[card.owner]} sends`);
  card.opening = () => void seen.push(`vf opened: ${PATH_NAMES[card.owner]} sends`);
  await card.port.start();
  expect(seen).toEqual([
    'synthetic armed: synthetic sends',
    'vf opened: synthetic sends',
    'vf armed: synthetic sends',
  ]);
  expect(card.owner).toBe(Path.VF);
  await card.port.close();
});

/** The supervisor has ordered the workers off the VF by itself. */
function leftVf(card: Card, reason: Reason, kickErrno = 0): LeftPath {
  card.attached &= ~(1 << Path.VF);
  card.ready &= ~(1 << Path.VF);
  card.owner = Path.SYNTHETIC;
  return { port: 0, path: Path.VF, reason, kickErrno };
}

test('a card that the supervisor has left is closed, reported with the reason, and opened again', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({});
  card.done.length = 0;
  await card.port.left(leftVf(card, 'kick failed', 100));
  expect(card.done).toEqual(['close']);
  expect(card.details).toEqual(['kick failed (ENETDOWN)']);
  await vi.advanceTimersByTimeAsync(1000);
  expect(card.done).toEqual(['close', 'open', ...SERVES]);
  await card.port.close();
});

test('a card whose loss the supervisor and a message report is closed once', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({});
  card.done.length = 0;
  const closed = card.port.left(leftVf(card, 'link gone'));
  await card.tell(undefined, 7);
  await closed;
  expect(card.done).toEqual(['close']);
  expect(card.news).toEqual(['up', 'gone']);
  await card.port.close();
});

test('a card that is left while it is being opened is closed, and its workers are ordered onto it no more', async () => {
  const card = new Card();
  await card.port.start();
  card.arming = (path) => {
    if (path !== Path.VF) return;
    card.told = card.vf = undefined;
    void card.port.left(leftVf(card, 'link gone'));
  };
  await card.tell({});
  expect(card.done).toEqual(['to synthetic: start', 'open', 'arm', 'close']);
  await card.port.close();
});

test('a card that was left while there was no coordinator is closed, and reported with the reason', async () => {
  const first = new Card();
  await first.port.start();
  await first.tell({});
  const { holdings } = first.port;
  for (const reason of ['link gone', undefined] as const) {
    const next = new Card();
    next.told = next.vf;
    const notice = leftVf(next, 'link gone');
    next.attached |= 1 << Path.SYNTHETIC;
    next.port.adopt(holdings);
    const resumed = next.port.resume();
    if (reason !== undefined) void next.port.left(notice);
    await resumed;
    expect(next.done.slice(0, 3)).toEqual(['close', 'open', ...SERVES].slice(0, 3));
    expect(next.news[0]).toBe(reason === undefined ? 'down' : 'gone');
    await next.port.close();
  }
  await first.port.close();
});

test('a port that is not started opens all and lets nothing in, and a stopped card keeps what it has open', async () => {
  const card = new Card();
  await card.port.start();
  await card.tell({});
  card.done.length = 0;
  expect(await card.port.configure({ started: false })).toMatchObject({ started: false });
  expect(card.done).toEqual(['to synthetic: stopped', 'close queues', 'open queues', 'to none: stopped']);
  expect(card.port.paths).toEqual({});
  card.done.length = 0;
  await card.tell({ carrier: false });
  await card.tell({});
  expect(card.done).toEqual([]);
  await card.port.configure({ mtu: 1400 });
  await card.port.configure({ started: true });
  expect(card.done).toEqual(['to synthetic: start', ...SERVES]);
  await card.port.configure({ started: false });
  await card.tell(undefined, 7);
  card.done.length = 0;
  await card.tell({});
  expect(card.done).toEqual(['open']);
  await card.port.configure({ started: true });
  expect(card.done).toEqual(['open', 'to synthetic: start', ...SERVES]);
  expect(card.errors).toEqual([]);
  await card.port.close();
});
