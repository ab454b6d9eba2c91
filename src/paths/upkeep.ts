/**
 * Keeping what a path has set up in the kernel. Other programs with our rights can alter all of it, and then packets vanish
 * without a message. The coordinator repairs each change at once and reports it. If another program, such as a network
 * manager, alters the same thing again and again, repairs pause ever longer and are reported ever more rarely.
 * Coordinator only.
 */
import { Errno, TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';

/** Pauses before the same thing is repaired again, in ms; the last one repeats. */
const PAUSE_MILLIS = [0, 500, 1000, 2000, 5000];
const ENODEV = -Errno.ENODEV;
/** After so long without a repair, the next counts as the first. */
const CALM_MILLIS = 60_000;

export type Report = (error: TwinpathError) => void;

/** What a path's upkeep works with. */
export interface Surroundings {
  /** The links as of the kernel's last message. */
  readonly links: {
    link(ifindex: number): Link | undefined;
    /** Counts up when a qdisc or a filter of that link has changed. */
    disciplines(ifindex: number): number;
  };
  /** The device that the port is opened on. */
  readonly netvsc: Link;
  readonly upkeep: Upkeep;
  /** Whether to ask the kernel also about changes for which it sends no message. */
  readonly thorough: boolean;
}

/** Whether a qdisc or a filter of some links has changed since the last look. */
export class DisciplineWatch {
  #last = 0;

  hasChanged({ links }: Surroundings, ...ifindexes: readonly number[]): boolean {
    const last = this.#last;
    this.#last = ifindexes.reduce((sum, ifindex) => sum + links.disciplines(ifindex), 0);
    return this.#last !== last;
  }
}

/** How often a fault was repaired, and when last. */
interface Fault {
  times: number;
  at: number;
}

/** One for each path of a port. It outlives the path's devices. */
export class Upkeep {
  readonly #report: Report;
  readonly #millis: () => number;
  readonly #faults = new Map<string, Fault>();
  readonly #reported = new Map<string, string>();

  /** @param millis a clock */
  constructor(report: Report, millis: () => number = () => performance.now()) {
    this.#report = report;
    this.#millis = millis;
  }

  /**
   * Repairs a fault, unless the last repair of the same fault is too recent. Then the next look finds it again.
   *
   * @param fault what is wrong with the device, as a sentence without its end
   * @throws what `work` throws
   */
  repair(device: string, fault: string, work: () => void): void {
    const times = this.#due(`${device} ${fault}`);
    if (times === 0) return;
    try {
      work();
    } catch (error) {
      if (error instanceof TwinpathError && error.errno === ENODEV) return; // the device is gone, which is reported
      throw error;
    }
    const again = times === 1 ? '' : `, ${times} times now: another program does it again and again`;
    if ((times & (times - 1)) === 0) this.#report(changed(device, `${fault}; repaired${again}`));
  }

  /** Reports what only closing and reopening the path repairs, as rarely as repairs. */
  failed(error: unknown): void {
    const known =
      error instanceof TwinpathError ? error : new TwinpathError('ERR_KERNEL', { detail: String(error) });
    const times = this.#count(known.message).times;
    if ((times & (times - 1)) === 0) this.#report(known);
  }

  /** Reports what cannot be repaired here, once for as long as it lasts. `undefined`: it is over. */
  tell(what: string, error: TwinpathError | undefined): void {
    const message = error?.message ?? '';
    if (this.#reported.get(what) === message) return;
    if (error !== undefined) this.#report(error);
    this.#reported.set(what, message);
    if (error === undefined) this.#reported.delete(what);
  }

  /** The number of this repair, or 0 if it is too early for one. */
  #due(key: string): number {
    const known = this.#faults.get(key);
    const pause = PAUSE_MILLIS[Math.min(known?.times ?? 0, PAUSE_MILLIS.length - 1)]!;
    if (known !== undefined && this.#millis() - known.at < pause) return 0;
    return this.#count(key).times;
  }

  #count(key: string): Fault {
    const now = this.#millis();
    const last = this.#faults.get(key);
    const calm = last === undefined || now - last.at >= CALM_MILLIS;
    const known = { times: calm ? 1 : last.times + 1, at: now };
    this.#faults.set(key, known);
    return known;
  }
}

/** The error for a change that another program has made to a device of the port. */
export function changed(device: string, detail: string): TwinpathError {
  return new TwinpathError('ERR_DEVICE_CHANGED', {
    device,
    detail,
    hint: 'Have network managers and scripts leave it alone while the port is open.',
  });
}
