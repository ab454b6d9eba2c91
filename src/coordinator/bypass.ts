/**
 * Whether a VF that owns the queues is bypassed: it receives nothing, while the NetVSC receives much. The kernel copies an
 * XDP program of the NetVSC to the VF (hv_netvsc, netvsc_vf_setxdp), in the place of ours, and our link goes on saying that
 * it is attached. A host that does not move its data path looks the same. Coordinator only.
 *
 * Counted in looks and packets, not in time. Multicast and broadcast come by the NetVSC anyway: a port that receives
 * nothing else is taken for bypassed as well, so it is said, and nothing is done.
 */

/** Looks in a row that the VF has received nothing in. */
const LOOKS = 10;
/** Packets by the synthetic path in these looks. */
const MUCH = 1000;

/** Counters of a port at one look. */
export interface Sample {
  readonly vfOwns: boolean;
  /** Packets received by each path since the port was opened. */
  readonly vf: number;
  readonly synthetic: number;
}

export class Bypass {
  #looks = 0;
  #vf = 0;
  #since = 0;
  #told = false;

  /** The number of packets that came round the VF, once, when it has turned out to be bypassed; else 0. */
  look({ vfOwns, vf, synthetic }: Sample): number {
    if (!vfOwns || vf !== this.#vf) {
      this.#told = false;
      this.#looks = 0;
    }
    this.#vf = vf;
    if (!vfOwns || this.#told) return 0;
    if (this.#looks++ === 0) this.#since = synthetic;
    const around = synthetic - this.#since;
    if (this.#looks <= LOOKS || around < MUCH) return 0;
    this.#told = true;
    return around;
  }
}
