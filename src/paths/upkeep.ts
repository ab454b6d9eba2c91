/**
 * Keeping up what a path has set up in the kernel: other programs can alter all of it, with the rights that we have, and
 * then packets vanish without anybody being told. What is found altered is repaired at once and told. Who alters it
 * again and again, a network
 * manager say, is given way to ever longer, and told of ever more rarely. Coordinator only.
 */
import { Errno, TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';

/** Pauses before the same thing is repaired again, in ms; the last one repeats. */
const PAUSE_MILLIS = [0, 500, 1000, 2000, 5000];
const ENODEV = -Errno.ENODEV;
/** Without a repair for so long, the next is the first again. */
const CALM_MILLIS = 60_000;

export type Report = (error: TwinpathError) => void;

/** What a path looks at when it looks after itself. */
export interface Surroundings {
  /** The links as they were last told of. */
  readonly links: {
    link(ifindex: number): Link | undefined;
    /** Counts up when a qdisc or a filter of that link has changed. */
    disciplines(ifindex: number): number;
  };
  /** The device that the port is opened on. */
  readonly netvsc: Link;
  readonly upkeep: Upkeep;
  /** Whether to ask the kernel as well about what it does not tell of by itself. */
  readonly thorough: boolean;
}

/** How often it was repaired, and when last. */
interface Fault {
  times: number;
  at: number;
}

/** One for each path of a port, over all times it is opened. */
export class Upkeep {
  readonly #report: Report;
  readonly #millis: () => number;
  readonly #faults = new Map<string, Fault>();
  readonly #told = new Map<string, string>();

  /** @param millis a clock */
  constructor(report: Report, millis: () => number = () => performance.now()) {
    this.#report = report;
    this.#millis = millis;
  }

  /**
   * Repairs what was found, unless that was done only just now; then the next look finds it again.
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
      if (error instanceof TwinpathError && error.errno === ENODEV) return; // it went meanwhile, which is told
      throw error;
    }
    const again = times === 1 ? '' : `, ${times} times now: something does it again and again`;
    if ((times & (times - 1)) === 0) this.#report(changed(device, `${fault}; repaired${again}`));
  }

  /** What only closing the path and opening it again repairs: told as often as repairs are. */
  failed(error: unknown): void {
    const known =
      error instanceof TwinpathError ? error : new TwinpathError('ERR_KERNEL', { detail: String(error) });
    const times = this.#count(known.message).times;
    if ((times & (times - 1)) === 0) this.#report(known);
  }

  /** Says something that cannot be repaired here, once as long as it is so; `undefined` when it is not, or no more. */
  tell(what: string, error: TwinpathError | undefined): void {
    const message = error?.message ?? '';
    if (this.#told.get(what) === message) return;
    if (error !== undefined) this.#report(error);
    this.#told.set(what, message);
    if (error === undefined) this.#told.delete(what);
  }

  /** Which repair of this it is, or 0 if it is not time for one. */
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

/** Another program has altered what is ours. */
export function changed(device: string, detail: string): TwinpathError {
  return new TwinpathError('ERR_DEVICE_CHANGED', {
    device,
    detail,
    hint: 'Have network managers and scripts leave it alone: it goes with the port.',
  });
}
