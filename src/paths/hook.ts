/**
 * Our programs at the tc hooks of devices: tcx bpf_links where the kernel has them (6.6), else cls_bpf
 * filters under clsact. Coordinator only.
 *
 * Links go with the process. Filters survive it when it is killed: the programs put in them let packets
 * go on to the kernel when the tap is gone, and the next start removes them.
 */
import { check, Errno } from '../errors.ts';
import type { Bpf } from '../kernel/bpf.ts';
import type { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import type { Hook } from '../kernel/traffic-control.ts';

export type TieKind = 'tcx' | 'clsact';

export const TIE_NAMES: Readonly<Record<TieKind, string>> = { tcx: 'tcx links', clsact: 'clsact filters' };

export interface HookProgram {
  readonly ifindex: number;
  readonly where: Hook;
  /** At most 15 characters. */
  readonly name: string;
  readonly link: Uint8Array;
  /** What a filter gets; the same as `link` where a killed process leaves no device to hang it on. */
  readonly filter: Uint8Array;
  /** The tap it belongs to. */
  readonly tap: number;
}

/** What one attach made, as data: whoever knows it can detach it. */
export type Attachment =
  /** A tcx bpf_link, by its descriptor. */
  | { readonly link: number }
  /** A filter of ours, and whether clsact was brought for it. */
  | { readonly ifindex: number; readonly where: Hook; readonly clsact: boolean }
  /** A filter on the tap: it goes with the tap. */
  | { readonly withTap: true };

/** Detaches what {@link Hooks.attach} attached, once. @throws ERR_KERNEL if the kernel refuses to remove a filter */
export function detach(shim: Shim, netlink: RtNetlink, attachment: Attachment): void {
  if ('link' in attachment) shim.close(attachment.link);
  else if ('where' in attachment) {
    const { ifindex, where, clsact } = attachment;
    if (clsact) netlink.noteClsact(ifindex); // it may have been another object's doing
    netlink.deleteBpfFilter(ifindex, where, HANDLE, PRIORITY);
    netlink.releaseClsact(ifindex);
  }
}

/** What one tie needs to attach; one object for each tie, since its programs are of one kind. */
export class Hooks {
  readonly #bpf: Bpf;
  readonly #netlink: RtNetlink;
  readonly #shim: Shim;
  readonly #device: string;
  #kind: TieKind;
  #settled = false;

  /** @param kind what is wanted: 'tcx' becomes 'clsact' on a kernel without it */
  constructor(bpf: Bpf, netlink: RtNetlink, shim: Shim, device: string, kind: TieKind) {
    this.#bpf = bpf;
    this.#netlink = netlink;
    this.#shim = shim;
    this.#device = device;
    this.#kind = kind;
  }

  /** Known once something is attached. */
  get kind(): TieKind {
    return this.#kind;
  }

  /**
   * Behind the programs that others have there; what they took does not come to ours. A link is made in
   * the calling thread's network namespace, a filter in that of the netlink socket.
   *
   * @returns what {@link detach} takes
   * @throws ERR_KERNEL, ERR_PERMISSION, ERR_DEVICE_BUSY (an ingress qdisc is in the place of clsact)
   */
  attach(program: HookProgram): Attachment {
    if (this.#kind === 'tcx') {
      const link = this.#link(program);
      if (link >= 0) {
        this.#settled = true;
        return { link };
      }
      const lacking = link === Errno.EINVAL || link === Errno.ENOSYS || link === Errno.EOPNOTSUPP;
      if (this.#settled || !lacking) check(link, 'bpf(LINK_CREATE, tcx)', { device: this.#device });
      this.#kind = 'clsact';
    }
    return this.#addFilter(program);
  }

  #link({ ifindex, where, name, link }: HookProgram): number {
    const fd = this.#bpf.load('sched_cls', name, link);
    const attached = this.#bpf.attachTcx(fd, ifindex, where);
    this.#shim.close(fd);
    return attached;
  }

  #addFilter({ ifindex, where, name, filter, tap }: HookProgram): Attachment {
    const fd = this.#bpf.load('sched_cls', name, filter);
    let clsact = false;
    try {
      clsact = this.#netlink.addClsact(ifindex);
      this.#netlink.addBpfFilter(ifindex, where, fd, filterName(where, tap), HANDLE, PRIORITY);
    } catch (error) {
      this.#netlink.releaseClsact(ifindex);
      throw error;
    } finally {
      this.#shim.close(fd);
    }
    return ifindex === tap ? { withTap: true } : { ifindex, where, clsact };
  }
}

/** Ours alone: nobody else's filter has this place. */
const HANDLE = 0x7457;
const PRIORITY = 0x7457;

/** An egress filter says which tap it is for, so that the one in use is told from one left behind. */
const filterName = (where: Hook, tap: number): string =>
  where === 'egress' ? `twinpath ${tap}` : 'twinpath';

/**
 * Removes what a killed process left at the NetVSC. Before the capture tie is attached, which is when no
 * ingress filter can be of use; an egress filter can, and goes when its tap has.
 */
export function removeLeftFilters(netlink: RtNetlink, netvsc: number): void {
  let found = false;
  for (const where of ['ingress', 'egress'] as const) {
    for (const { name } of netlink.bpfFilters(netvsc, where)) {
      const [ours, tap] = name.split(' ');
      if (ours !== 'twinpath' || (tap !== undefined && netlink.link(Number(tap)) !== undefined)) continue;
      netlink.deleteBpfFilter(netvsc, where, HANDLE, PRIORITY);
      found = true;
    }
  }
  if (found) netlink.deleteEmptyClsact(netvsc);
}
