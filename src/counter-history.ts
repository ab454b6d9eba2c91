/**
 * Counters of devices that come and go, by name: DPDK's xstats. A counter never decreases and never disappears. Pure; any
 * thread.
 *
 * Each total is the sum of the last readings of all devices so far. A device that is set up again, or gets other queues, starts
 * its counters from 0, or has fewer of them: what they had reached stays in the total.
 *
 * NB: drivers report a few numbers that are no counters, such as a temperature. Each time such a number falls, its total grows by
 * the number from before.
 */
export class CounterHistory {
  /** Sums over what has ended. */
  readonly #past = new Map<string, number>();
  /** The last reading of the present device, with counters that it does not report any more. */
  readonly #last = new Map<string, number>();
  #device = 0;

  /** @param device identifies the device: its ifindex */
  read(device: number, counters: Readonly<Record<string, number>>): void {
    if (device !== this.#device) {
      for (const [name, value] of this.#last) this.#end(name, value);
      this.#last.clear();
      this.#device = device;
    }
    for (const [name, value] of Object.entries(counters)) {
      const before = this.#last.get(name) ?? 0;
      if (value < before) this.#end(name, before);
      this.#last.set(name, value);
    }
  }

  /** Every counter ever read. */
  totals(): Record<string, number> {
    const names = new Set([...this.#past.keys(), ...this.#last.keys()]);
    return Object.fromEntries(
      [...names].map((name) => [name, (this.#past.get(name) ?? 0) + (this.#last.get(name) ?? 0)]),
    );
  }

  #end(name: string, value: number): void {
    this.#past.set(name, (this.#past.get(name) ?? 0) + value);
  }
}
