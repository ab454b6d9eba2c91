/**
 * The redirect between the host tap and the machine's own stack, which keeps its addresses and routes on the
 * NetVSC and notices nothing. Coordinator only.
 *
 * ```
 *   write to the host tap ── mark ──► NetVSC ingress ── mark cleared ──► the kernel receives it
 *   the kernel sends ──► NetVSC egress ── unmarked ──► the host tap, which a worker reads    (inline mode)
 *   write to the capture tap ── mark ──► NetVSC egress ── mark cleared ──► out               (inline mode)
 * ```
 *
 * The kernel's large segments are sent from a socket that marks them (paths/segments.ts).
 *
 * NB: the capture redirect clears the mark at the NetVSC's ingress (paths/tap/redirect.ts). While it is not attached, for
 * example while a closing port drains, the kernel receives passed packets with the mark on. They arrive, but a rule of the
 * machine that matches this mark would match them.
 *
 * NB: in inline mode the host tap is the only way for the kernel's packets. Call `disableInline` before the workers stop
 * reading it.
 */
import { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { everyStep } from '../every-step.ts';
import type { RedirectRequest } from '../tap/redirect.ts';
import type { AttachmentHolding, TcAttachment, TcProgram } from '../tc-attachment.ts';
import { type RedirectKind, TcAttachments } from '../tc-attachments.ts';

/** `tap` is the host tap here. */
type HostRedirectRequest = Omit<RedirectRequest, 'marks' | 'maxPacketBytes' | 'macFilter'>;

/** The attachments of a host redirect as data: see `PathDevice.holdings`. */
export interface HostRedirectHoldings {
  /** The kind that the kernel turned out to have. */
  readonly kind: RedirectKind;
  /** At the host tap: the kernel receives what is written to it. */
  readonly pass: AttachmentHolding | undefined;
  /** At the NetVSC's egress, in inline mode. */
  readonly inline: AttachmentHolding | undefined;
}

export class HostRedirect {
  readonly #attachments: TcAttachments<'pass' | 'inline'>;
  readonly #request: HostRedirectRequest;

  /**
   * @param changed called after each change of the holdings
   * @param held the holdings of a redirect that another coordinator attached
   */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    request: HostRedirectRequest,
    changed: () => void = () => {},
    held?: HostRedirectHoldings,
  ) {
    const context = { bpf: new Bpf(shim), netlink, shim, device: request.device };
    this.#attachments = new TcAttachments(context, held?.kind ?? request.kind, changed);
    this.#request = request;
    this.#attachments.adopt('pass', this.#passing, held?.pass);
    this.#attachments.adopt('inline', this.#inlining, held?.inline);
  }

  /** The kind of its attachments, for people. Final once it is attached. */
  get name(): string {
    return this.#attachments.name;
  }

  get holdings(): HostRedirectHoldings {
    return {
      kind: this.#attachments.kind,
      pass: this.#attachments.holding('pass'),
      inline: this.#attachments.holding('inline'),
    };
  }

  /** At the host tap, and in inline mode at the NetVSC. */
  get attachments(): { readonly tap: TcAttachment | undefined; readonly netvsc: TcAttachment | undefined } {
    return { tap: this.#attachments.at('pass'), netvsc: this.#attachments.at('inline') };
  }

  /** From now on the kernel receives what is written to the host tap. Once. @throws ERR_KERNEL, ERR_PERMISSION */
  attach(): void {
    this.#attachments.attach('pass', this.#passing);
  }

  /** Inline mode: the host tap receives what the kernel sends through the NetVSC. May be called twice. */
  enableInline(): void {
    if (this.#attachments.at('inline') === undefined) this.#attachments.attach('inline', this.#inlining);
  }

  /** The kernel's packets leave through the NetVSC again. May be called twice. */
  disableInline(): void {
    this.#attachments.detach('inline');
  }

  release(): void {
    everyStep([() => this.disableInline(), () => this.#attachments.detach('pass')]);
  }

  get #passing(): TcProgram {
    const { netvsc, tap } = this.#request;
    const program = tcMarkedRedirect(netvsc, 'ingress');
    return { ifindex: tap, where: 'ingress', name: 'twinpath_pass', tap, link: program, filter: program };
  }

  get #inlining(): TcProgram {
    const { netvsc, tap, protect, first } = this.#request;
    const link = tcCapture(tap, { protect });
    const filter = tcCaptureWhilePresent(tap, { protect });
    return { ifindex: netvsc, where: 'egress', first, name: 'twinpath_inline', tap, link, filter };
  }
}
