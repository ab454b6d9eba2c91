import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { QueueKeeper, type WorkerThread } from '../../../src/coordinator/queue-keeper.ts';
import { hasLease, takeLease } from '../../../src/datapath/lease.ts';
import { TwinpathError } from '../../../src/errors.ts';
import { Memory } from '../../../src/memory/shared.ts';
import type { OpenPortOptions } from '../../../src/options.ts';
import type { ReportedEvent } from '../../../src/port-events.ts';
import { single, validate } from '../../../src/settings.ts';

const QUEUE = 0;

/** The pauses that were asked for: each is over at once. */
const pauses: number[] = [];

/** What becomes of the workers with the handler, one after the other, as the test wants it. */
type Fate = Error | 'serves';

class Scene {
  readonly memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  readonly told: string[] = [];
  readonly closing = new AbortController();
  /** Numbers of the fallback workers that were started, and of those that serve. */
  readonly fallbacks: number[] = [];
  readonly keeper: QueueKeeper;
  readonly #fates: Fate[];
  #workers = 0;
  #served: () => void = () => {};
  /** Resolves when a worker serves that is meant to stay. */
  readonly served = new Promise<void>((resolve) => {
    this.#served = resolve;
  });

  /** Each worker that dies has served, but for the one whose death is a TwinpathError: it did not load. */
  constructor(fates: readonly Fate[]) {
    this.#fates = [...fates];
    const options: OpenPortOptions = { handler: '/tmp/handler.js', queues: 1 };
    const context = {
      memory: this.memory,
      settings: validate(single(options)),
      reports: {
        report: ({ kind, event }: ReportedEvent) => {
          if (kind === 'worker') this.told.push(event.state);
          if (kind === 'error') this.told.push(event.code);
        },
        line: () => {},
        gaveUp: () => void this.told.push('gave up'),
        restored: () => void this.told.push('restored'),
        gone: () => void this.told.push('gone'),
      },
      launch: (fallback: boolean) => this.#launch(fallback),
      pause: async (millis: number) => void pauses.push(millis),
    };
    this.keeper = new QueueKeeper(context, QUEUE, this.closing.signal);
  }

  #launch(fallback: boolean): WorkerThread {
    const worker = ++this.#workers;
    const abort = new AbortController();
    const end = (reason: Error): void => abort.abort(reason);
    const life = { queue: QUEUE, worker, fallback, end, polls: false };
    if (fallback) {
      this.fallbacks.push(worker);
      return { ...life, loaded: Promise.resolve(true), ended: this.#leaves(worker, abort.signal) };
    }
    const fate = this.#fates.shift() ?? 'serves';
    if (fate instanceof TwinpathError) {
      return { ...life, loaded: Promise.resolve(false), ended: Promise.resolve(fate) };
    }
    const whole: WorkerThread = {
      ...life,
      loaded: Promise.resolve(true),
      ended: this.#granted(worker).then(() => {
        whole.polls = true;
        if (fate !== 'serves') return fate;
        this.#served();
        return new Promise<undefined>((resolve) => {
          this.closing.signal.addEventListener('abort', () => resolve(undefined));
        });
      }),
    };
    return whole;
  }

  /** A fallback worker serves until the lease is taken from it; it may be aborted before it has begun. */
  async #leaves(worker: number, aborted: AbortSignal): Promise<Error> {
    await this.#granted(worker, aborted);
    while (hasLease(this.memory, QUEUE, worker)) await new Promise(setImmediate);
    return new Error('worker exited');
  }

  async #granted(worker: number, aborted?: AbortSignal): Promise<void> {
    const at = this.memory.workers[QUEUE]!.at('lease');
    while (Atomics.load(this.memory.words, at) !== worker) {
      if (aborted?.aborted) return;
      await new Promise(setImmediate);
    }
    takeLease(this.memory, QUEUE, worker);
  }

  async run(): Promise<void> {
    const running = this.keeper.run(() => {});
    await Promise.race([this.served, running]);
    this.closing.abort();
    await running;
  }
}

beforeEach(() => {
  pauses.length = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }); // no time passes
});
afterEach(() => void vi.useRealTimers());

const deaths = (count: number): Error[] => Array.from({ length: count }, () => new Error('exit'));

it('a worker that dies once or twice is replaced at once, and nothing is given up', async () => {
  const scene = new Scene(deaths(2));
  await scene.run();
  expect(pauses).toEqual([]);
  expect(scene.told).toEqual(['died', 'died']);
});

it('workers that die in a row are replaced after longer and longer pauses, and the queue is given up in the long pauses', async () => {
  const scene = new Scene(deaths(11));
  await scene.run();
  expect(pauses).toEqual([50, 100, 250, 500, 1000, 2000, 5000, 5000, 5000]);
  expect(scene.fallbacks).toHaveLength(5);
  expect(scene.told.filter((one) => one === 'died')).toHaveLength(11);
  expect(scene.told.filter((one) => one === 'ERR_WORKER')).toHaveLength(1);
  const turns = scene.told.filter((one) => one === 'gave up' || one === 'restored');
  expect(turns).toEqual(Array(5).fill(['gave up', 'restored']).flat());
});

it('workers that cannot start because of a system limit are reported with that limit', async () => {
  const noThread = Object.assign(new Error('Worker initialization failure: EMFILE'), {
    code: 'ERR_WORKER_INIT_FAILED',
  });
  const scene = new Scene(Array(7).fill(noThread));
  await scene.run();
  expect(scene.told.filter((one) => one.startsWith('ERR_'))).toEqual(['ERR_START']);
});

it('a queue whose handler does not load again is given up until it loads, and this is reported once', async () => {
  const refused = new TwinpathError('ERR_HANDLER', { device: 'handler', detail: 'not again' });
  const scene = new Scene([...deaths(1), refused, refused, refused]);
  await scene.run();
  expect(scene.told).toEqual(['died', 'ERR_HANDLER', 'gave up', 'restored']);
  expect(scene.fallbacks).toHaveLength(1);
  expect(pauses).toEqual([1000, 2000, 5000]);
});

it('the failure of a queue’s first worker is thrown, and the worker is not replaced', async () => {
  const refused = new TwinpathError('ERR_HANDLER', { device: 'handler', detail: 'not at all' });
  const scene = new Scene([refused]);
  await expect(scene.keeper.run(() => {})).rejects.toBe(refused);
  expect([...scene.told, ...scene.fallbacks]).toEqual([]);
});
