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
import type { Bpf } from '../../kernel/bpf.ts';
import { tcCapture, tcCaptureWhilePresent, tcMarkedRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { Hooks, TIE_NAMES } from '../hook.ts';
import type { TieRequest } from '../tap/tie.ts';

/** `tap` is the host tap here. */
type HostTieRequest = Omit<TieRequest, 'marks'>;

export class HostTie {
  readonly name: string;
  readonly #hooks: Hooks;
  readonly #request: HostTieRequest;
  readonly #release: () => void;
  #disengage: (() => void) | undefined;

  private constructor(hooks: Hooks, request: HostTieRequest, release: () => void) {
    this.name = TIE_NAMES[hooks.kind];
    this.#hooks = hooks;
    this.#request = request;
    this.#release = release;
  }

  /** From now on the kernel receives what is written to the host tap. @throws ERR_KERNEL, ERR_PERMISSION */
  static attach(bpf: Bpf, netlink: RtNetlink, shim: Shim, request: HostTieRequest): HostTie {
    const { netvsc, tap, device, kind } = request;
    const hooks = new Hooks(bpf, netlink, shim, device, kind);
    const pass = tcMarkedRedirect(netvsc, 'ingress');
    const release = hooks.attach({
      ...{ ifindex: tap, where: 'ingress', name: 'twinpath_pass', tap },
      ...{ link: pass, filter: pass },
    });
    return new HostTie(hooks, request, release);
  }

  /** Inline mode: what the kernel sends by the NetVSC comes up the host tap. May be called twice. */
  engage(): void {
    if (this.#disengage !== undefined) return;
    const { netvsc, tap } = this.#request;
    this.#disengage = this.#hooks.attach({
      ...{ ifindex: netvsc, where: 'egress', name: 'twinpath_inline', tap },
      ...{ link: tcCapture(tap), filter: tcCaptureWhilePresent(tap) },
    });
  }

  /** The kernel's packets go out by the NetVSC again, of themselves. */
  disengage(): void {
    this.#disengage?.();
    this.#disengage = undefined;
  }

  release(): void {
    this.disengage();
    this.#release();
  }
}
