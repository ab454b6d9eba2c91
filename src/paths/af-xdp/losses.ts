/** What a VF has lost, as the kernel counts it, since its sockets were opened. Coordinator only. */
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { xdpStatistics } from '../../kernel/xdp-statistics.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { Driver } from '../../memory/layout.ts';

export class DeviceLosses {
  /** Packets for which the device had no buffer before that. */
  missedBefore = 0;
  readonly #shim: Shim;
  readonly #netlink: RtNetlink | undefined;
  readonly #ifindex: number;

  constructor(shim: Shim, netlink: RtNetlink | undefined, ifindex: number) {
    this.#shim = shim;
    this.#netlink = netlink;
    this.#ifindex = ifindex;
  }

  /** The sockets are new: what was lost so far does not count with them. */
  begin(): void {
    this.missedBefore = this.#missed();
  }

  /**
   * Of a queue's socket. What concerns the whole device is reported on queue 0.
   *
   * @param unclaimed packets on queues of the device that have no socket, which belong to no port queue
   */
  of(queue: number, slot: PathSlot, unclaimed: () => number): Record<KernelCounter, number> {
    const rxUnclaimed = queue === 0 ? unclaimed() : 0;
    const lostInDevice = queue === 0 ? Math.max(0, this.#missed() - this.missedBefore) : 0;
    const none = { ...NOTHING_DROPPED, rxUnclaimed, lostInDevice };
    if (slot.driver !== Driver.AF_XDP) return none;
    const counted = xdpStatistics(this.#shim, slot.fd);
    if (counted === undefined) return none;
    const { rxDropped, rxInvalid, rxRingFull, rxFillEmpty, txInvalid } = counted;
    return {
      rxDropped: rxDropped + rxInvalid,
      rxRingFull,
      rxFillEmpty,
      rxUnclaimed,
      lostInDevice,
      txInvalid: Math.max(0, txInvalid - slot.recalled), // without those that we made invalid: see recall.ts
    };
  }

  /** Ever, or 0. A device that is set up under traffic has no buffers at first. */
  #missed(): number {
    return this.#netlink?.link(this.#ifindex)?.statistics?.rxMissed ?? 0;
  }
}
