/**
 * The redirect between the NetVSC and the capture tap: each packet that arrives on one is transmitted on the other. Packets
 * with our mark are not redirected: the host tap has sent them to the kernel, see paths/host/redirect.ts. Coordinator only.
 *
 * The standby leg of a net_failover device is redirected too. As long as there is a primary, even one that is down, the
 * kernel drops every packet for the standby leg's MAC address (drivers/net/net_failover.c, net_failover_handle_frame). The
 * host sends such packets before and after it moves its data path. Broadcast and multicast packets come to both legs, and
 * the kernel passes one copy to the net_failover device: those are not redirected here.
 */
import { TwinpathError } from '../../errors.ts';
import { Bpf } from '../../kernel/bpf.ts';
import type { KernelRules } from '../../kernel/kernel-rules.ts';
import type { MacFilter } from '../../kernel/mac-filter.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect, tcRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { everyStep, undoAfter } from '../every-step.ts';
import type { AttachmentHolding, TcAttachment, TcProgram } from '../tc-attachment.ts';
import { type RedirectKind, TcAttachments } from '../tc-attachments.ts';
import { removeLeftFilters } from '../tc-filter.ts';

export interface RedirectRequest {
  readonly netvsc: number;
  readonly tap: number;
  readonly device: string;
  readonly kind: RedirectKind;
  /**
   * Whether packets that we send bear the mark, which the egress program of inline mode clears. Only with inline mode:
   * without that program the mark would stay on the packet, and filters of a qdisc would see it.
   */
  readonly marks?: boolean;
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
  readonly protect?: boolean;
  /** Whether the programs at the NetVSC run before those that others have there. For links, not for filters. */
  readonly first?: boolean;
  /** Longer packets get a tag, see `tcCapture`. Absent if the reader of the tap does not know that tag. */
  readonly maxPacketBytes?: number;
  /** Whether packets get metadata before them, which the reader of the tap expects. Only with tcx links. */
  readonly metadata?: boolean;
  /** ifindex of the standby leg; 0 none. */
  readonly standby?: number;
  readonly macFilter?: MacFilter | undefined;
  /** What is redirected of the packets that the NetVSC receives: at first, see {@link TcRedirect.setRules}. */
  readonly rules?: KernelRules | undefined;
}

/** The attachments of a redirect as data: see `PathDevice.holdings`. */
export interface RedirectHoldings {
  /** The kind that the kernel turned out to have. */
  readonly kind: RedirectKind;
  /** At the NetVSC: redirects what it receives to the tap. */
  readonly netvsc: AttachmentHolding | undefined;
  /** At the tap: redirects what is written to it to the NetVSC's transmit side. */
  readonly tap: AttachmentHolding | undefined;
  /** At the standby leg: redirects packets for its own MAC address to the tap. */
  readonly standby: AttachmentHolding | undefined;
  /** ifindex of the standby leg; 0 none. */
  readonly standbyIndex: number;
}

export class TcRedirect {
  readonly #attachments: TcAttachments<'netvsc' | 'tap' | 'standby'>;
  readonly #netlink: RtNetlink;
  readonly #request: RedirectRequest;
  readonly #standbyIndex: number;
  #rules: KernelRules | undefined;

  /**
   * @param changed called after each change of the holdings
   * @param held the holdings of a redirect that another coordinator attached
   */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    request: RedirectRequest,
    changed: () => void = () => {},
    held?: RedirectHoldings,
  ) {
    const { device, kind, standby = 0 } = request;
    const context = { bpf: new Bpf(shim), netlink, shim, device };
    this.#attachments = new TcAttachments(context, held?.kind ?? kind, changed);
    this.#netlink = netlink;
    this.#request = request;
    this.#rules = request.rules;
    this.#standbyIndex = held?.standbyIndex ?? standby;
    this.#attachments.adopt('tap', this.#outward, held?.tap);
    this.#attachments.adopt('netvsc', this.#inward, held?.netvsc);
    this.#attachments.adopt('standby', this.#fromStandby, held?.standby);
  }

  /** The kind of its attachments, for people. Final once it is attached. */
  get name(): string {
    return this.#attachments.name;
  }

  get holdings(): RedirectHoldings {
    return {
      kind: this.#attachments.kind,
      netvsc: this.#attachments.holding('netvsc'),
      tap: this.#attachments.holding('tap'),
      standby: this.#attachments.holding('standby'),
      standbyIndex: this.#standbyIndex,
    };
  }

  /** At the NetVSC, at the tap, at the standby leg. */
  get attachments(): readonly (TcAttachment | undefined)[] {
    return (['netvsc', 'tap', 'standby'] as const).map((end) => this.#attachments.at(end));
  }

  /** Redirects both ways. Outgoing first, so that the port can answer the first packet. Once. @throws ERR_KERNEL */
  attach(): void {
    removeLeftFilters(this.#netlink, this.#request.netvsc);
    this.#attachments.attach('tap', this.#outward);
    this.#attachments.attach('netvsc', this.#inward);
    if (this.#standbyIndex === 0) return;
    removeLeftFilters(this.#netlink, this.#standbyIndex);
    this.#attachments.attach('standby', this.#fromStandby);
  }

  /** Exchanges the rules at the NetVSC and at the standby leg. @throws ERR_KERNEL: both have the rules before */
  setRules(rules: KernelRules | undefined): void {
    const before = this.#rules;
    const steps = [
      () => this.#attachments.replace('netvsc', this.#inward),
      () => this.#attachments.replace('standby', this.#fromStandby),
    ];
    this.#rules = rules;
    try {
      for (const step of steps) step();
    } catch (error) {
      this.#rules = before;
      undoAfter(error, steps);
    }
  }

  /** From now on the kernel gets the NetVSC's packets. Packets that are written to the tap are still sent. */
  releaseNetvsc(): void {
    everyStep([() => this.#attachments.detach('standby'), () => this.#attachments.detach('netvsc')]);
  }

  release(): void {
    everyStep([() => this.releaseNetvsc(), () => this.#attachments.detach('tap')]);
  }

  get #outward(): TcProgram {
    const { netvsc, tap, marks = false } = this.#request;
    const program = marks ? tcMarkedRedirect(netvsc, 'egress') : tcRedirect(netvsc);
    return { ifindex: tap, where: 'ingress', name: 'twinpath_out', tap, link: program, filter: program };
  }

  get #inward(): TcProgram {
    return this.#capture(this.#request.netvsc, 'twinpath_in', false);
  }

  get #fromStandby(): TcProgram {
    return this.#capture(this.#standbyIndex, 'twinpath_by', true);
  }

  #capture(ifindex: number, name: string, own: boolean): TcProgram {
    const { tap, protect, macFilter, maxPacketBytes, first, metadata = false, device } = this.#request;
    const options = { protect, macFilter, maxPacketBytes, own, rules: this.#rules, metadata };
    return {
      ...{ ifindex, where: 'ingress', first, name, tap },
      // Made when they are needed: a thread that only closes must not fail at reading the rules.
      get link() {
        return tcCapture(tap, options);
      },
      get filter() {
        if (metadata) throw new TwinpathError('ERR_KERNEL', { device, detail: 'it takes no tcx link' });
        if (options.rules === undefined) return tcCaptureWhilePresent(tap, options);
        return (tapMap: number) => tcCaptureWhilePresent(tap, options, tapMap);
      },
    };
  }
}
