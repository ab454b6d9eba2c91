/**
 * Whether a VF that owns the queues is bypassed: it receives nothing, while the NetVSC receives many packets. The kernel
 * copies an XDP program of the NetVSC to the VF (hv_netvsc, netvsc_vf_setxdp), in the place of ours, and our link still says
 * that it is attached. A host that does not move its data path looks the same. Coordinator thread only.
 *
 * Counts checks and packets, not time. Multicast and broadcast come through the NetVSC anyway: a port that receives nothing
 * else looks bypassed as well. So the port reports it and does nothing else.
 */

/** Checks in a row in which the VF received nothing. */
const CHECKS = 10;
/** Packets on the synthetic path during these checks. */
const MIN_PACKETS = 1000;

/** Counters of a port at one check. */
export interface Sample {
  readonly vfOwns: boolean;
  /** Packets that each path has received since the port was opened. */
  readonly vf: number;
  readonly synthetic: number;
}

export class Bypass {
  #checks = 0;
  #vf = 0;
  #syntheticBefore = 0;
  #reported = false;

  /** The number of packets that bypassed the VF, once, when it turns out to be bypassed; else 0. */
  check({ vfOwns, vf, synthetic }: Sample): number {
    if (!vfOwns || vf !== this.#vf) {
      this.#reported = false;
      this.#checks = 0;
    }
    this.#vf = vf;
    if (!vfOwns || this.#reported) return 0;
    if (this.#checks++ === 0) this.#syntheticBefore = synthetic;
    const around = synthetic - this.#syntheticBefore;
    if (this.#checks <= CHECKS || around < MIN_PACKETS) return 0;
    this.#reported = true;
    return around;
  }
}
