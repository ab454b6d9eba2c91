/**
 * Checks of open paths: whether a doubtful link is lost, whether what a path has set up in the kernel still stands, and
 * whether packets bypass the VF. Coordinator thread only.
 */
import { pathCounters } from '../memory/counters.ts';
import { Path, type PathId } from '../memory/layout.ts';
import { Bypass } from './bypass.ts';
import { answerLinked, isDoubted } from './doubts.ts';
import { type PortState, reportError, reportLink } from './port-state.ts';
import { react } from './react.ts';
import { type Slot, unusable } from './slot.ts';

export class PathChecks {
  readonly #state: PortState;
  readonly #bypass = new Bypass();

  constructor(state: PortState) {
    this.#state = state;
  }

  /** Asks the kernel for the links that workers doubt, which may take long. */
  checkLinks(): void {
    const { memory, port, slots, run } = this.#state;
    for (const slot of slots) {
      if (!slot.ready || slot.broken !== undefined || !isDoubted(memory, port, slot.path)) continue;
      run('querying a link', () => this.#checkLink(slot));
    }
  }

  /**
   * Has each open path check and repair what it has set up. Reacts to a path that it cannot repair. Not of a port that is not
   * started: it is checked when it starts, and the synthetic path is closed for a moment when it stops.
   *
   * @returns whether there was one
   */
  maintain(thorough: boolean): boolean {
    const { slots, network, closing, configuration } = this.#state;
    if (!configuration.started) return false;
    let any = false;
    for (const slot of slots) {
      if (slot.device === undefined || slot.broken !== undefined || closing) continue;
      const report = (error: unknown): void => reportError(this.#state, error);
      if (network.maintain?.(slot.path, slot.device, thorough, report) !== false) continue;
      react(this.#state, slot, 'path failed');
      any = true;
    }
    return any;
  }

  /** Reads the kernel's counters into the shared memory, and does the checks that depend on them. */
  count(): void {
    for (const { ready, drops, device } of this.#state.slots) if (ready) drops.read(device!);
    this.#checkBypass();
    if (this.maintain(true)) this.#state.run('closing a path', () => this.#state.reconcile());
  }

  /** The kernel's message about a lost link comes later than a worker's doubt. */
  #checkLink(slot: Slot): void {
    const { memory, port, network, run, reconcile } = this.#state;
    const { path, key } = slot;
    const now = network.query(path);
    const reason = now?.key === key ? unusable(path, now) : 'link gone';
    if (reason === undefined) {
      answerLinked(memory, port, path);
      return;
    }
    react(this.#state, slot, reason);
    run('closing a path', reconcile);
  }

  #checkBypass(): void {
    const { ownership, network, slots } = this.#state;
    const [vf, synthetic] = [this.#received(Path.VF), this.#received(Path.SYNTHETIC)];
    const around = this.#bypass.check({ vfOwns: ownership.owner === Path.VF, vf, synthetic });
    if (around === 0) return;
    const detail = `it transmits, but has received nothing while ${around} packets came through ${network.device}`;
    reportLink(this.#state, slots.find(({ path }) => path === Path.VF)!, 'bypassed', detail);
  }

  #received(path: PathId): number {
    const { memory, port } = this.#state;
    let packets = 0;
    for (let queue = 0; queue < memory.layout.geometry.queues; queue++) {
      packets += memory.doubles[pathCounters(memory, port, queue, path).rxPackets]!;
    }
    return packets;
  }
}
