/**
 * Statistics of a port by name, with the devices' own: what the kernel and the drivers count. Belongs to the thread that
 * opened the port. So the history outlives a coordinator.
 */

import { CounterHistory } from './counter-history.ts';
import type { CounterReadings } from './kernel/device-counters.ts';

/** Counters of the devices that a path has had. */
export interface DeviceStatistics {
  /** The kernel's, the same names for every device: rx_packets, tx_dropped, rx_missed_errors … */
  readonly link: Readonly<Record<string, number>>;
  /** The driver's own, as `ethtool -S` shows them. */
  readonly driver: Readonly<Record<string, number>>;
  /** Packets that the MAC filter has left to the machine's own stack: see `macFilter`. Since the port was opened. */
  readonly filtered: number;
}

/** Empty for a path that has had no device. A card alone has both paths, and so counts the same in both. */
export type ExtendedStatistics = Readonly<Record<DevicePath, DeviceStatistics>>;
export type DevicePath = 'synthetic' | 'vf';

export class ExtendedHistory {
  readonly #paths = {
    synthetic: { link: new CounterHistory(), driver: new CounterHistory() },
    vf: { link: new CounterHistory(), driver: new CounterHistory() },
  } satisfies Record<DevicePath, unknown>;

  #filtered = { synthetic: 0, vf: 0 };

  read({ synthetic, vf, filtered = this.#filtered }: CounterReadings): ExtendedStatistics {
    this.#filtered = filtered;
    for (const [path, reading] of [
      [this.#paths.synthetic, synthetic],
      [this.#paths.vf, vf],
    ] as const) {
      if (reading === undefined) continue;
      path.link.read(reading.key, reading.link);
      path.driver.read(reading.key, reading.driver);
    }
    return {
      synthetic: { ...totals(this.#paths.synthetic), filtered: filtered.synthetic },
      vf: { ...totals(this.#paths.vf), filtered: filtered.vf },
    };
  }
}

function totals({ link, driver }: Record<'link' | 'driver', CounterHistory>) {
  return { link: link.totals(), driver: driver.totals() };
}
