/**
 * The redirect between the NetVSC and the capture tap: what arrives on one leaves by the other's transmit
 * side. Except for packets that bear our mark, which the host tap has sent to the kernel: see
 * paths/host/redirect.ts. Coordinator only.
 *
 * A net_failover device has a standby leg, whose packets the kernel gives to nobody as long as there is a primary, even
 * one that is down (drivers/net/net_failover.c, net_failover_handle_frame): what the host delivers there before and after
 * it moves its data path. So that leg is redirected too, for packets to its own MAC address. What is for everybody comes to
 * both legs, and the kernel is right to let one of them through: that arrives at the net_failover device.
 */
import { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect, tcRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { everyStep } from '../every-step.ts';
import {
  type Attachment,
  type AttachmentHolding,
  type HookProgram,
  Hooks,
  REDIRECT_NAMES,
  type RedirectKind,
  removeLeftFilters,
} from '../hook.ts';

export interface RedirectRequest {
  readonly netvsc: number;
  readonly tap: number;
  readonly device: string;
  readonly kind: RedirectKind;
  /**
   * What we send bears the mark, which the egress program of inline mode clears. Without that program
   * it would go out on the packet, for the filters of a qdisc to see: so only where inline mode is.
   */
  readonly marks?: boolean;
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
  readonly protect?: boolean;
  /** Whether the programs at the NetVSC come before those that others have there: as links, not as filters. */
  readonly first?: boolean;
  /** Bytes beyond which a packet is tagged as long, see `tcCapture`; absent where who reads the tap knows no such tag. */
  readonly maxPacketBytes?: number;
  /** ifindex of the standby leg; 0 none. */
  readonly standby?: number;
}

/** What a redirect has attached, as data: see `PathDevice.holdings`. */
export interface RedirectHoldings {
  /** What the kernel turned out to have. */
  readonly kind: RedirectKind;
  /** At the NetVSC: what it receives goes to the tap. */
  readonly netvsc: AttachmentHolding | undefined;
  /** At the tap: what is written to it leaves by the NetVSC. */
  readonly tap: AttachmentHolding | undefined;
  /** At the standby leg: what is sent to it alone goes to the tap too. */
  readonly standby: AttachmentHolding | undefined;
  /** Its ifindex; 0 none. */
  readonly standbyIndex: number;
}

export class TcRedirect {
  readonly #hooks: Hooks;
  readonly #netlink: RtNetlink;
  readonly #request: RedirectRequest;
  readonly #changed: () => void;
  #netvsc: Attachment | undefined;
  #tap: Attachment | undefined;
  #standby: Attachment | undefined;
  #standbyIndex: number;

  /**
   * @param changed called after each change of the holdings
   * @param held by a redirect that another coordinator attached
   */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    request: RedirectRequest,
    changed: () => void = () => {},
    held?: RedirectHoldings,
  ) {
    this.#hooks = new Hooks(new Bpf(shim), netlink, shim, request.device, held?.kind ?? request.kind);
    this.#netlink = netlink;
    this.#request = request;
    this.#changed = changed;
    this.#standbyIndex = held?.standbyIndex ?? request.standby ?? 0;
    if (held?.tap !== undefined) this.#tap = this.#hooks.adopt(this.#outward, held.tap);
    if (held?.netvsc !== undefined) this.#netvsc = this.#hooks.adopt(this.#inward, held.netvsc);
    if (held?.standby !== undefined) this.#standby = this.#hooks.adopt(this.#aside, held.standby);
  }

  /** What it is made of; known once it is attached. */
  get name(): string {
    return REDIRECT_NAMES[this.#hooks.kind];
  }

  get holdings(): RedirectHoldings {
    return {
      ...{ kind: this.#hooks.kind, netvsc: this.#netvsc?.holding, tap: this.#tap?.holding },
      ...{ standby: this.#standby?.holding, standbyIndex: this.#standbyIndex },
    };
  }

  /** At the NetVSC, at the tap, at the standby leg. */
  get attachments(): readonly (Attachment | undefined)[] {
    return [this.#netvsc, this.#tap, this.#standby];
  }

  /** Redirects both ways: outgoing first, so that the first packet can already be answered. Once. @throws ERR_KERNEL */
  attach(): void {
    removeLeftFilters(this.#netlink, this.#request.netvsc);
    this.#tap = this.#hooks.attach(this.#outward);
    this.#changed();
    this.#netvsc = this.#hooks.attach(this.#inward);
    this.#changed();
    if (this.#standbyIndex > 0) this.#redirectStandby();
  }

  #redirectStandby(): void {
    removeLeftFilters(this.#netlink, this.#standbyIndex);
    this.#standby = this.#hooks.attach(this.#aside);
    this.#changed();
  }

  /** The kernel gets the NetVSC's packets again; what the tap is given still goes out. */
  releaseNetvsc(): void {
    everyStep([() => this.#releaseStandby(), () => this.#releaseUpper()]);
  }

  #releaseStandby(): void {
    if (this.#standby === undefined) return;
    this.#standby.detach();
    this.#standby = undefined;
    this.#changed();
  }

  #releaseUpper(): void {
    if (this.#netvsc === undefined) return;
    this.#netvsc.detach();
    this.#netvsc = undefined;
    this.#changed();
  }

  release(): void {
    everyStep([() => this.releaseNetvsc(), () => this.#releaseTap()]);
  }

  #releaseTap(): void {
    if (this.#tap === undefined) return;
    this.#tap.detach();
    this.#tap = undefined;
    this.#changed();
  }

  get #outward(): HookProgram {
    const { netvsc, tap, marks = false } = this.#request;
    const program = marks ? tcMarkedRedirect(netvsc, 'egress') : tcRedirect(netvsc);
    return {
      ...{ ifindex: tap, where: 'ingress', name: 'twinpath_out', tap },
      ...{ link: program, filter: program },
    };
  }

  get #inward(): HookProgram {
    return this.#capture(this.#request.netvsc, 'twinpath_in', false);
  }

  get #aside(): HookProgram {
    return this.#capture(this.#standbyIndex, 'twinpath_by', true);
  }

  #capture(ifindex: number, name: string, own: boolean): HookProgram {
    const { tap, protect, maxPacketBytes, first } = this.#request;
    const options = { protect, maxPacketBytes, own };
    return {
      ...{ ifindex, where: 'ingress', first, name, tap },
      ...{ link: tcCapture(tap, options), filter: tcCaptureWhilePresent(tap, options) },
    };
  }
}
