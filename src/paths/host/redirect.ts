/**
 * The redirect between the host tap and the machine's own stack, which keeps its addresses and routes on the
 * NetVSC and notices nothing. Coordinator only.
 *
 * ```
 *   write to the host tap ── mark ──► NetVSC ingress ── mark cleared ──► the kernel receives it
 *   the kernel sends ──► NetVSC egress ── unmarked ──► the host tap's queue, for us to read   (engaged)
 *   write to the capture tap ── mark ──► NetVSC egress ── mark cleared ──► out                (engaged)
 * ```
 *
 * Large segments of the kernel's take the same way out from a socket that marks them (paths/segments.ts).
 *
 * NB: the mark is cleared at the NetVSC's ingress by the capture redirect (paths/tap/redirect.ts). While that one is not
 * there, at the drain of a closing port say, the kernel receives passed packets with their mark on: they arrive,
 * but a rule of the machine about just this mark would see them. And once engaged, the kernel's packets go
 * nowhere but to us: call `disableInline` before nobody reads any more.
 */
import { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect } from '../../kernel/programs.ts';
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
} from '../hook.ts';
import type { RedirectRequest } from '../tap/redirect.ts';

/** `tap` is the host tap here. */
type HostRedirectRequest = Omit<RedirectRequest, 'marks' | 'maxPacketBytes'>;

/** What a host redirect has attached, as data: see `PathDevice.holdings`. */
export interface HostRedirectHoldings {
  /** What the kernel turned out to have. */
  readonly kind: RedirectKind;
  /** At the host tap: what is written to it the kernel receives. */
  readonly pass: AttachmentHolding | undefined;
  /** At the NetVSC's egress, while engaged. */
  readonly inline: AttachmentHolding | undefined;
}

export class HostRedirect {
  readonly #hooks: Hooks;
  readonly #request: HostRedirectRequest;
  readonly #changed: () => void;
  #pass: Attachment | undefined;
  #inline: Attachment | undefined;

  /**
   * @param changed called after each change of the holdings
   * @param held by a redirect that another coordinator attached
   */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    request: HostRedirectRequest,
    changed: () => void = () => {},
    held?: HostRedirectHoldings,
  ) {
    this.#hooks = new Hooks(new Bpf(shim), netlink, shim, request.device, held?.kind ?? request.kind);
    this.#request = request;
    this.#changed = changed;
    if (held?.pass !== undefined) this.#pass = this.#hooks.adopt(this.#passing, held.pass);
    if (held?.inline !== undefined) this.#inline = this.#hooks.adopt(this.#inlining, held.inline);
  }

  get name(): string {
    return REDIRECT_NAMES[this.#hooks.kind];
  }

  get holdings(): HostRedirectHoldings {
    return { kind: this.#hooks.kind, pass: this.#pass?.holding, inline: this.#inline?.holding };
  }

  /** At the host tap, and at the NetVSC while engaged. */
  get attachments(): { readonly tap: Attachment | undefined; readonly netvsc: Attachment | undefined } {
    return { tap: this.#pass, netvsc: this.#inline };
  }

  /** From now on the kernel receives what is written to the host tap. Once. @throws ERR_KERNEL, ERR_PERMISSION */
  attach(): void {
    this.#pass = this.#hooks.attach(this.#passing);
    this.#changed();
  }

  /** Inline mode: what the kernel sends by the NetVSC comes up the host tap. May be called twice. */
  enableInline(): void {
    if (this.#inline !== undefined) return;
    this.#inline = this.#hooks.attach(this.#inlining);
    this.#changed();
  }

  /** The kernel's packets go out by the NetVSC again, of themselves. */
  disableInline(): void {
    if (this.#inline === undefined) return;
    this.#inline.detach();
    this.#inline = undefined;
    this.#changed();
  }

  release(): void {
    everyStep([() => this.disableInline(), () => this.#releasePass()]);
  }

  #releasePass(): void {
    if (this.#pass === undefined) return;
    this.#pass.detach();
    this.#pass = undefined;
    this.#changed();
  }

  get #passing(): HookProgram {
    const { netvsc, tap } = this.#request;
    const program = tcMarkedRedirect(netvsc, 'ingress');
    return {
      ...{ ifindex: tap, where: 'ingress', name: 'twinpath_pass', tap },
      ...{ link: program, filter: program },
    };
  }

  get #inlining(): HookProgram {
    const { netvsc, tap, protect, first } = this.#request;
    return {
      ...{ ifindex: netvsc, where: 'egress', first, name: 'twinpath_inline', tap },
      ...{ link: tcCapture(tap, { protect }), filter: tcCaptureWhilePresent(tap, { protect }) },
    };
  }
}
