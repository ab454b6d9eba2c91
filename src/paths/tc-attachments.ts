/**
 * The programs of one redirect at the tc hooks of its devices: tcx bpf_links where the kernel has them (6.6), else cls_bpf
 * filters under clsact. All are of one kind. Coordinator only.
 */
import { check, Errno } from '../errors.ts';
import type { AttachmentHolding, TcAttachment, TcContext, TcProgram } from './tc-attachment.ts';
import { TcFilter } from './tc-filter.ts';
import { TcxLink } from './tcx-link.ts';

export type RedirectKind = 'tcx' | 'clsact';

/** Whether a tcx program of ours at the NetVSC runs before those of others: see the option `redirectOrder`. */
export type RedirectOrder = 'first' | 'last';

const REDIRECT_NAMES: Readonly<Record<RedirectKind, string>> = {
  tcx: 'tcx links',
  clsact: 'clsact filters',
};

/** @typeParam End names of the places that the redirect attaches to */
export class TcAttachments<End extends string> {
  readonly #context: TcContext;
  readonly #changed: () => void;
  readonly #attached = new Map<End, TcAttachment>();
  #kind: RedirectKind;

  /**
   * @param kind the kind wanted: 'tcx' becomes 'clsact' on a kernel without it
   * @param changed called after each change of a holding
   */
  constructor(context: TcContext, kind: RedirectKind, changed: () => void) {
    this.#context = context;
    this.#kind = kind;
    this.#changed = changed;
  }

  /** Final once something is attached. */
  get kind(): RedirectKind {
    return this.#kind;
  }

  /** The kind, for people. */
  get name(): string {
    return REDIRECT_NAMES[this.#kind];
  }

  at(end: End): TcAttachment | undefined {
    return this.#attached.get(end);
  }

  holding(end: End): AttachmentHolding | undefined {
    return this.at(end)?.holding;
  }

  /**
   * Attaches the program. It does not get the packets that programs before it take. A link is made in the network
   * namespace of the calling thread, a filter in that of the netlink socket.
   *
   * @throws ERR_KERNEL, ERR_PERMISSION, ERR_DEVICE_BUSY (an ingress qdisc is in the place of clsact)
   */
  attach(end: End, program: TcProgram): void {
    this.#attached.set(end, this.#attach(program));
    this.#changed();
  }

  /** Continues what another coordinator has attached, if it has. */
  adopt(end: End, program: TcProgram, held: AttachmentHolding | undefined): void {
    if (held === undefined) return;
    const adopted =
      'link' in held ? new TcxLink(this.#context, program, held) : new TcFilter(this.#context, program, held);
    this.#attached.set(end, adopted);
  }

  /** Puts another program in the place of the one there, if there is one. @throws as `TcAttachment.replace` */
  replace(end: End, program: TcProgram): void {
    const attachment = this.at(end);
    if (attachment === undefined) return;
    attachment.replace(program);
    this.#changed();
  }

  /** May be called twice. */
  detach(end: End): void {
    const attachment = this.at(end);
    if (attachment === undefined) return;
    attachment.detach();
    this.#attached.delete(end);
    this.#changed();
  }

  #attach(program: TcProgram): TcAttachment {
    if (this.#kind === 'tcx') {
      const link = new TcxLink(this.#context, program);
      const result = link.attach();
      if (result >= 0) return link;
      const lacking = result === Errno.EINVAL || result === Errno.ENOSYS || result === Errno.EOPNOTSUPP;
      if (this.#attached.size > 0 || !lacking) {
        check(result, 'bpf(LINK_CREATE, tcx)', { device: this.#context.device });
      }
      this.#kind = 'clsact';
    }
    const filter = new TcFilter(this.#context, program);
    filter.renew(() => {});
    return filter;
  }
}
