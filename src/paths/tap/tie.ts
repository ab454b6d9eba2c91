/**
 * The tie between the NetVSC and the capture tap: what arrives on one leaves by the other's transmit
 * side. Except for packets that bear our mark, which the host tap has sent to the kernel: see
 * paths/host/tie.ts. Coordinator only.
 */
import type { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect, tcRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { Hooks, removeLeftFilters, TIE_NAMES, type TieKind } from '../hook.ts';

export interface TieRequest {
  readonly netvsc: number;
  readonly tap: number;
  readonly device: string;
  readonly kind: TieKind;
  /**
   * What we send bears the mark, which the egress program of inline mode clears. Without that program
   * it would go out on the packet, for the filters of a qdisc to see: so only where inline mode is.
   */
  readonly marks?: boolean;
}

export class Tie {
  readonly name: string;
  readonly #netvsc: () => void;
  readonly #tap: () => void;

  private constructor(name: string, netvsc: () => void, tap: () => void) {
    this.name = name;
    this.#netvsc = netvsc;
    this.#tap = tap;
  }

  /** Ties both ways: outgoing first, so that the first packet can already be answered. */
  static attach(bpf: Bpf, netlink: RtNetlink, shim: Shim, request: TieRequest): Tie {
    const { netvsc, tap, device, kind, marks = false } = request;
    removeLeftFilters(netlink, netvsc);
    const hooks = new Hooks(bpf, netlink, shim, device, kind);
    const outgoing = marks ? tcMarkedRedirect(netvsc, 'egress') : tcRedirect(netvsc);
    const out = hooks.attach({
      ...{ ifindex: tap, where: 'ingress', name: 'twinpath_out', tap },
      ...{ link: outgoing, filter: outgoing },
    });
    try {
      const into = hooks.attach({
        ...{ ifindex: netvsc, where: 'ingress', name: 'twinpath_in', tap },
        ...{ link: tcCapture(tap), filter: tcCaptureWhilePresent(tap) },
      });
      return new Tie(TIE_NAMES[hooks.kind], into, out);
    } catch (error) {
      out();
      throw error;
    }
  }

  /** The kernel gets the NetVSC's packets again; what the tap is given still goes out. */
  releaseNetvsc(): void {
    this.#netvsc();
  }

  release(): void {
    this.#netvsc();
    this.#tap();
  }
}
