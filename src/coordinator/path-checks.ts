/**
 * Checks of open paths: whether a worker's kick failed, whether a doubtful link is lost, whether what a path has set up in
 * the kernel still stands, and whether packets bypass the VF. Coordinator thread only.
 */
import { pathCounters } from '../memory/counters.ts';
import type { Reason } from '../memory/journal.ts';
import { Doubt, Path, type PathId } from '../memory/layout.ts';
import { Bypass } from './bypass.ts';
import { type PortState, reportError, reportLink } from './port-state.ts';
import { react } from './react.ts';
import { type Slot, unusable } from './slot.ts';

export class PathChecks {
  readonly #state: PortState;
  readonly #bypass = new Bypass();

  constructor(state: PortState) {
    this.#state = state;
  }

  /** A worker rang: it acknowledges an order, or a kick failed before rtnetlink said why, or it doubts a link. */
  checkWorkers(): void {
    const { ownership, slots, run } = this.#state;
    ownership.check();
    for (const slot of slots) if (slot.ready && slot.broken === undefined) this.#checkKicks(slot);
    // Asking for a link may take long: the port has left the paths whose kicks failed before that.
    for (const slot of slots) {
      if (!slot.ready || slot.broken !== undefined || !this.#isDoubted(slot)) continue;
      run('querying a link', () => this.#checkLink(slot));
    }
  }

  /**
   * Has each open path check and repair what it has set up. Reacts to a path that it cannot repair.
   *
   * @returns whether there was one
   */
  maintain(thorough: boolean): boolean {
    const { slots, network, closing } = this.#state;
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

  #checkKicks(slot: Slot): void {
    const { memory, port, run, reconcile } = this.#state;
    for (let queue = 0; queue < memory.layout.geometry.queues; queue++) {
      slot.kickErrno = Atomics.load(memory.words, memory.queue(port, queue).kickErrnoAt(slot.path));
      if (slot.kickErrno === 0) continue;
      react(this.#state, slot, 'kick failed');
      run('closing a path', reconcile);
      return;
    }
  }

  #doubts(path: PathId): number[] {
    const { memory, port } = this.#state;
    const queues = Array.from({ length: memory.layout.geometry.queues }, (_, queue) => queue);
    return queues.map((queue) => memory.slot({ port, queue, path }).at('doubt'));
  }

  #isDoubted({ path }: Slot): boolean {
    const { words } = this.#state.memory;
    return this.#doubts(path).some((at) => Atomics.load(words, at) === Doubt.ASKED);
  }

  /**
   * A device drops what a worker transmits, or its driver says that it is down. Checks whether the device has lost its link:
   * the kernel's message about that comes later.
   */
  #checkLink(slot: Slot): void {
    const { words } = this.#state.memory;
    const reason = this.#linkFailure(slot);
    if (reason === undefined) {
      for (const at of this.#doubts(slot.path)) Atomics.compareExchange(words, at, Doubt.ASKED, Doubt.LINKED);
      return;
    }
    react(this.#state, slot, reason);
    this.#state.run('closing a path', this.#state.reconcile);
  }

  /** A zero-copy driver says that it is down while another process holds RTNL, which asking for the link would wait for. */
  #linkFailure({ path, key, device }: Slot): Reason | undefined {
    const { network } = this.#state;
    const runs = device?.outlastsLink === true ? undefined : network.runs?.(path);
    if (runs !== undefined) return runs ? undefined : 'kick failed'; // tried again after a pause, while the device exists
    const now = network.query(path);
    return now?.key === key ? unusable(path, now) : 'link gone';
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
