/**
 * The taps of all ports of a worker: follows the orders of captures, once a round and before any packet of it.
 *
 * The ring of a capture is the queue's, whichever port the capture is of, and has one sender. So the taps of all ports change
 * together: a port that kept an old one, while another port has one for the next capture in the same place, would write over its
 * records when a packet is forwarded to it. Belongs to the worker thread.
 */
import { CaptureOrders } from '../memory/capture-orders.ts';
import type { Memory } from '../memory/shared.ts';
import { CaptureTap } from './capture-tap.ts';

/** A port's end: its {@link CaptureTap}, undefined while no capture runs on it. */
export interface Tapped {
  capture: CaptureTap | undefined;
}

export class CaptureTaps {
  readonly #memory: Memory;
  readonly #queue: number;
  /** By number. */
  readonly #ports: readonly Tapped[];
  readonly #orders: CaptureOrders;

  constructor(memory: Memory, queue: number, ports: readonly Tapped[]) {
    this.#memory = memory;
    this.#queue = queue;
    this.#ports = ports;
    this.#orders = new CaptureOrders(memory);
  }

  /** Without a change, one load. */
  follow(): void {
    if (this.#orders.isStale) this.#change();
  }

  #change(): void {
    const orders = this.#orders.read();
    if (orders === undefined) return;
    // NB: all of them first. A new sender begins where the last one has published.
    for (const { capture } of this.#ports) capture?.commit();
    for (const [port, tapped] of this.#ports.entries()) {
      const own = orders.map((order) => (order?.port === port ? order : undefined));
      const tap = new CaptureTap(this.#memory, this.#queue, own);
      tapped.capture = tap.isIdle ? undefined : tap;
    }
  }
}
