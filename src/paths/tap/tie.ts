/**
 * The tie between the NetVSC and the capture tap: what arrives on one leaves by the other's transmit
 * side. Except for packets that bear our mark, which the host tap has sent to the kernel: see
 * paths/host/tie.ts. Coordinator only.
 */
import { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect, tcRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { everyStep } from '../every-step.ts';
import { type Attachment, detach, Hooks, removeLeftFilters, TIE_NAMES, type TieKind } from '../hook.ts';

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

/** What a tie has attached, as data: see DeviceHoldings in paths/path.ts. */
export interface TieHoldings {
  /** What the kernel turned out to have. */
  kind: TieKind;
  /** At the NetVSC: what it receives goes to the tap. */
  netvsc?: Attachment | undefined;
  /** At the tap: what is written to it leaves by the NetVSC. */
  tap?: Attachment | undefined;
}

export class Tie {
  readonly holdings: TieHoldings;
  readonly #netlink: RtNetlink;
  readonly #shim: Shim;
  readonly #request: TieRequest;
  readonly #changed: () => void;

  /**
   * @param changed called after each change of the holdings
   * @param holdings of a tie that another coordinator attached
   */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    request: TieRequest,
    changed: () => void = () => {},
    holdings: TieHoldings = { kind: request.kind },
  ) {
    this.#netlink = netlink;
    this.#shim = shim;
    this.#request = request;
    this.#changed = changed;
    this.holdings = holdings;
  }

  /** What it is made of; known once it is attached. */
  get name(): string {
    return TIE_NAMES[this.holdings.kind];
  }

  /** Ties both ways: outgoing first, so that the first packet can already be answered. Once. @throws ERR_KERNEL */
  attach(): void {
    const { netvsc, tap, device, kind, marks = false } = this.#request;
    removeLeftFilters(this.#netlink, netvsc);
    const hooks = new Hooks(new Bpf(this.#shim), this.#netlink, this.#shim, device, kind);
    const outgoing = marks ? tcMarkedRedirect(netvsc, 'egress') : tcRedirect(netvsc);
    this.holdings.tap = hooks.attach({
      ...{ ifindex: tap, where: 'ingress', name: 'twinpath_out', tap },
      ...{ link: outgoing, filter: outgoing },
    });
    this.holdings.kind = hooks.kind;
    this.#changed();
    this.holdings.netvsc = hooks.attach({
      ...{ ifindex: netvsc, where: 'ingress', name: 'twinpath_in', tap },
      ...{ link: tcCapture(tap), filter: tcCaptureWhilePresent(tap) },
    });
    this.#changed();
  }

  /** The kernel gets the NetVSC's packets again; what the tap is given still goes out. */
  releaseNetvsc(): void {
    this.#release('netvsc');
  }

  release(): void {
    everyStep([() => this.#release('netvsc'), () => this.#release('tap')]);
  }

  #release(end: 'netvsc' | 'tap'): void {
    const attachment = this.holdings[end];
    if (attachment === undefined) return;
    detach(this.#shim, this.#netlink, attachment);
    this.holdings[end] = undefined;
    this.#changed();
  }
}
