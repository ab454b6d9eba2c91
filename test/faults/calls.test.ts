/**
 * One system call of a port fails, at any point of its life: each time the end is a clear error or a live port, and
 * nothing is left on the machine. Here a sample; `npm run test:calls` takes every call (most of an hour on two CPUs).
 */
import { describe, expect, test } from 'vitest';
import { buildLab, drive, type Lab, nothingLeft, passed, until } from '../support/harness.ts';
import { type Failure, type Fault, OrderedPort } from '../support/ordered-port.ts';

const ERRNOS = { EPERM: 1, ENOMEM: 12, EBUSY: 16, ENOBUFS: 105 };
type Errno = keyof typeof ERRNOS;
const ALL = process.env.TWINPATH_FAULTS === 'all';
/** Ports that live at a time: a life is mostly waiting. */
const LANES = ALL ? 6 : 2;
/** Lives of a sample, of each thread. */
const SAMPLE = { 'twinpath-coord': 16, 'twinpath-super': 12, 'twinpath-q0': 8 } as const;
/** Calls of a worker that are tried: opening its rings and its first packets. Then they repeat. */
const WORKER_CALLS = 80;

interface Life {
  readonly outcome: 'refused' | 'closed' | 'lived';
  readonly errors: Failure[];
  readonly calls: number;
}

/** Opens a port, has its VF come and go under traffic, and closes it. @throws if it hangs, or leaves anything */
async function live(lab: Lab, process: OrderedPort, fault: Fault): Promise<Life> {
  const { opened, error } = await process.open(lab, fault);
  let outcome: Life['outcome'] = opened ? 'lived' : 'refused';
  let errors = error === undefined ? [] : [error];
  if (opened) {
    const traffic = await drive(lab, lab.nic, { rate: 500, icmpRate: 20 });
    const all = (path: string) => async (): Promise<boolean> => {
      const { owners, closed } = await process.ask('look');
      return closed || owners.every((owner) => owner === path);
    };
    await until('the synthetic path', all('synthetic'));
    await lab.nic.plug();
    await until('the VF', all('vf'));
    await lab.nic.moveDataPath('vf');
    if (!(await process.ask('look')).closed) await passed(traffic, 10);
    await lab.nic.unplug();
    await until('the synthetic path again', all('synthetic'));
    const look = await process.ask('look');
    if (!look.closed) await passed(traffic, 10);
    await traffic.stop({ settleMillis: 100 });
    outcome = look.closed ? 'closed' : 'lived';
    errors = (await process.ask('look')).errors;
    for (const { total, accounted } of (await process.ask('close')).frames) expect(accounted).toBe(total);
  }
  await nothingLeft(lab);
  return { outcome, errors, calls: (await process.ask('left')).calls };
}

/** A lab and a process whose port lives in it, once for each fault. */
class Lane {
  readonly #lab: Lab;
  readonly #process: OrderedPort;
  readonly #thread: Fault['thread'];
  readonly #before: readonly string[];
  /** That the thread makes when none fails. */
  readonly calls: number;

  private constructor(
    lab: Lab,
    process: OrderedPort,
    thread: Fault['thread'],
    calls: number,
    before: string[],
  ) {
    this.#lab = lab;
    this.#process = process;
    this.#thread = thread;
    this.calls = calls;
    this.#before = before;
  }

  /** After a life without a fault. */
  static async begin(thread: Fault['thread']): Promise<Lane> {
    const lab = await buildLab();
    const process = OrderedPort.start();
    const none = await live(lab, process, { thread, call: 0 });
    expect(none).toMatchObject({ outcome: 'lived', errors: [] });
    return new Lane(lab, process, thread, none.calls, (await process.ask('left')).descriptors);
  }

  /** A life in which that call fails so. @throws if its end is not clear, or leaves anything */
  async fail(call: number, name: Errno): Promise<Life['outcome']> {
    const fault: Fault = { thread: this.#thread, call, errno: ERRNOS[name] };
    const life = await live(this.#lab, this.#process, fault).catch((error: unknown) => {
      throw new Error(`${this.#thread}, call ${call}, ${name}: ${(error as Error).message}`);
    });
    const { outcome, errors } = life;
    const clear = errors.every((one) => one.name === 'TwinpathError' && one.message.length > 20);
    expect({ call, name, outcome, errors, clear }).toMatchObject({ clear: true });
    if (outcome !== 'lived') expect(errors.length).toBeGreaterThan(0);
    const { descriptors } = await this.#process.ask('left');
    expect({ call, name, descriptors }).toEqual({ call, name, descriptors: this.#before });
    expect(this.#process.alive).toBe(true);
    return outcome;
  }
}

describe('a port of which one system call fails', { timeout: ALL ? 4 * 3600_000 : 240_000 }, () => {
  test.each(['twinpath-coord', 'twinpath-super', 'twinpath-q0'] as const)(
    'is refused with a clear error, closes with one, or lives: %s',
    async (thread) => {
      const lanes = await Promise.all(Array.from({ length: LANES }, () => Lane.begin(thread)));
      const calls = thread === 'twinpath-q0' ? Math.min(lanes[0]!.calls, WORKER_CALLS) : lanes[0]!.calls;
      expect(calls).toBeGreaterThan(3);
      const names = Object.keys(ERRNOS) as Errno[];
      const every = names.flatMap((name) => Array.from({ length: calls }, (_, i) => [i + 1, name] as const));
      // A stride that has no factor in common with anything that repeats.
      const sample = Array.from({ length: SAMPLE[thread] }, (_, i) => {
        return [1 + ((i * 61) % calls), names[i % names.length]!] as const;
      });
      const lives = (ALL ? every : sample).entries();
      const ends = { refused: 0, closed: 0, lived: 0 };
      // Each lane takes the next life, until there is none.
      const walk = async (lane: Lane): Promise<void> => {
        for (const [i, [call, name]] of lives) {
          ends[await lane.fail(call, name)]++;
          if (ALL && i % 50 === 0)
            console.log(`${thread}: call ${call} of ${calls}, ${name}, ${JSON.stringify(ends)}`);
        }
      };
      await Promise.all(lanes.map(walk));
      if (ALL) console.log(`${thread}: every call of ${calls}, ${JSON.stringify(ends)}`);
    },
  );
});

/** System calls of the coordinator while it answers an audit, and more: its timer makes some too. */
const AUDIT_CALLS = 20;

test('an audit is answered whichever of its system calls fails, and what failed is told', {
  timeout: 240_000,
}, async () => {
  const lab = await buildLab();
  const port = OrderedPort.start();
  const open = async (call: number): Promise<number> => {
    expect(await port.open(lab, { thread: 'twinpath-coord', call, errno: ERRNOS.EPERM })).toMatchObject({
      opened: true,
    });
    return (await port.ask('left')).calls;
  };
  const before = await open(0);
  await port.ask('close');
  let told = 0;
  for (let call = before + 1; call <= before + AUDIT_CALLS; call++) {
    await open(call);
    for (const { total, accounted } of (await port.ask('close')).frames) expect(accounted).toBe(total);
    const { errors } = await port.ask('look');
    told += errors.filter(({ message }) => message.includes('reading counters')).length;
  }
  expect(told).toBeGreaterThan(0);
  await nothingLeft(lab);
});
