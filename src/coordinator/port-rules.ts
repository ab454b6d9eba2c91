/**
 * The flow rules of a port, in the kernel: made once for both paths, exchanged on all that are open, and given to each that is
 * opened later. Coordinator thread only.
 */
import { type HeldRules, KernelRules, type RuleCounts } from '../kernel/kernel-rules.ts';
import type { Shim } from '../kernel/shim.ts';
import type { PathDevice } from '../paths/device.ts';
import { undoAfter } from '../paths/every-step.ts';
import type { GivenRules } from '../rules/rule.ts';

export class PortRules {
  readonly #shim: Shim;
  #current: KernelRules | undefined;

  /** @param held what another coordinator has made */
  constructor(shim: Shim, held?: HeldRules) {
    this.#shim = shim;
    this.#current = held && KernelRules.adopt(shim, held);
  }

  /** Those of devices that are made now; undefined: every packet is for the handler. */
  get current(): KernelRules | undefined {
    return this.#current;
  }

  get held(): HeldRules | undefined {
    return this.#current?.held;
  }

  /** Undefined without rules. @throws ERR_KERNEL */
  get counts(): RuleCounts | undefined {
    return this.#current?.counts();
  }

  /**
   * Gives all devices other rules. The same rules again change nothing, and keep their counters.
   *
   * @param changed called when the rules are in force, before what the rules before had is closed
   * @throws ERR_KERNEL, ERR_PERMISSION: all devices have the rules before
   */
  exchange(given: GivenRules | undefined, devices: readonly PathDevice[], changed: () => void): void {
    const before = this.#current;
    if (isSameRules(before?.given, given)) return;
    const rules = given && KernelRules.open(this.#shim, given);
    const exchanged: PathDevice[] = [];
    try {
      for (const device of devices) {
        device.setRules?.(rules);
        exchanged.push(device);
      }
    } catch (error) {
      undoAfter(error, [...exchanged.map((device) => () => device.setRules?.(before)), () => rules?.close()]);
    }
    this.#current = rules;
    changed();
    before?.close();
  }

  /** After all devices are closed. */
  close(): void {
    this.#current?.close();
    this.#current = undefined;
  }
}

/** Whether they are the same rules. */
export function isSameRules(one: GivenRules | undefined, other: GivenRules | undefined): boolean {
  if (one?.rules === other?.rules && one?.otherwise === other?.otherwise) return true;
  return JSON.stringify(one) === JSON.stringify(other); // that of another coordinator, or of another message
}
