/** Calls the `tick` of each of a worker's handlers, with each of its ports, when its time has come. */
import type { LoadedHandler } from '../handler/load-handler.ts';
import { millisBetween, type Shim } from '../kernel/shim.ts';
import type { PortQueue } from './port-queue.ts';

interface Ticking {
  readonly tick: NonNullable<LoadedHandler['tick']>;
  readonly millis: number;
  readonly ports: PortQueue[];
  next: number;
}

export class Ticks {
  readonly #shim: Shim;
  readonly #all: readonly Ticking[];
  /** The longest time between two calls of {@link run}, in ms. */
  readonly mostSleep: number;

  /** @param handlers of the ports, in their order */
  constructor(shim: Shim, handlers: readonly LoadedHandler[], ports: readonly PortQueue[]) {
    this.#shim = shim;
    const now = shim.millis();
    const all: Ticking[] = [];
    for (const { tick, tickMillis } of new Set(handlers)) {
      if (tick === undefined) continue;
      const own = ports.filter((_, port) => handlers[port]!.tick === tick);
      all.push({ tick, millis: tickMillis, ports: own, next: now });
    }
    this.#all = all;
    this.mostSleep = Math.min(...all.map(({ millis }) => millis));
  }

  /** Between two bursts. */
  run(): void {
    for (const ticking of this.#all) {
      const now = this.#shim.millis();
      if (millisBetween(ticking.next, now) < 0) continue;
      ticking.next = now + Math.ceil(ticking.millis);
      for (const port of ticking.ports) port.dispatch.tick(ticking.tick);
    }
  }
}
