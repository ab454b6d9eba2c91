/**
 * The tie between the host tap and the machine's own stack, which keeps its addresses and routes on the
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
 * NB: the mark is cleared at the NetVSC's ingress by the capture tie (paths/tap/tie.ts). While that one is not
 * there, at the drain of a closing port say, the kernel receives passed packets with their mark on: they arrive,
 * but a rule of the machine about just this mark would see them. And once engaged, the kernel's packets go
 * nowhere but to us: disengage before nobody reads any more.
 */
import { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { everyStep } from '../every-step.ts';
import { type Attachment, detach, type HookProgram, Hooks, TIE_NAMES, type TieKind } from '../hook.ts';
import type { TieRequest } from '../tap/tie.ts';

/** `tap` is the host tap here. */
type HostTieRequest = Omit<TieRequest, 'marks'>;

/** What a host tie has attached, as data: see DeviceHoldings in paths/path.ts. */
export interface HostTieHoldings {
  /** At the host tap: what is written to it the kernel receives. */
  pass?: Attachment | undefined;
  /** At the NetVSC's egress, while engaged. */
  inline?: Attachment | undefined;
  /** What the kernel turned out to have. */
  kind: TieKind;
}

export class HostTie {
  readonly holdings: HostTieHoldings;
  readonly #hooks: Hooks;
  readonly #netlink: RtNetlink;
  readonly #shim: Shim;
  readonly #request: HostTieRequest;
  readonly #changed: () => void;

  /**
   * @param changed called after each change of the holdings
   * @param holdings of a tie that another coordinator attached
   */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    request: HostTieRequest,
    changed: () => void = () => {},
    holdings: HostTieHoldings = { kind: request.kind },
  ) {
    this.#hooks = new Hooks(new Bpf(shim), netlink, shim, request.device, holdings.kind);
    this.#netlink = netlink;
    this.#shim = shim;
    this.#request = request;
    this.#changed = changed;
    this.holdings = holdings;
  }

  get name(): string {
    return TIE_NAMES[this.holdings.kind];
  }

  /** From now on the kernel receives what is written to the host tap. Once. @throws ERR_KERNEL, ERR_PERMISSION */
  attach(): void {
    const { netvsc, tap } = this.#request;
    const pass = tcMarkedRedirect(netvsc, 'ingress');
    this.holdings.pass = this.#hook({
      ...{ ifindex: tap, where: 'ingress', name: 'twinpath_pass', tap },
      ...{ link: pass, filter: pass },
    });
    this.#changed();
  }

  /** Inline mode: what the kernel sends by the NetVSC comes up the host tap. May be called twice. */
  engage(): void {
    if (this.holdings.inline !== undefined) return;
    const { netvsc, tap } = this.#request;
    this.holdings.inline = this.#hook({
      ...{ ifindex: netvsc, where: 'egress', name: 'twinpath_inline', tap },
      ...{ link: tcCapture(tap), filter: tcCaptureWhilePresent(tap) },
    });
    this.#changed();
  }

  /** The kernel's packets go out by the NetVSC again, of themselves. */
  disengage(): void {
    this.#release('inline');
  }

  release(): void {
    everyStep([() => this.disengage(), () => this.#release('pass')]);
  }

  #hook(program: HookProgram): Attachment {
    const attachment = this.#hooks.attach(program);
    this.holdings.kind = this.#hooks.kind;
    return attachment;
  }

  #release(end: 'inline' | 'pass'): void {
    const attachment = this.holdings[end];
    if (attachment === undefined) return;
    detach(this.#shim, this.#netlink, attachment);
    this.holdings[end] = undefined;
    this.#changed();
  }
}
