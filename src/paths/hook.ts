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
import { changed, type Upkeep } from './upkeep.ts';

export type RedirectKind = 'tcx' | 'clsact';

/** Whether a tcx program of ours at the NetVSC comes before those of others: see the option `redirectOrder`. */
export type RedirectOrder = 'first' | 'last';

export const REDIRECT_NAMES: Readonly<Record<RedirectKind, string>> = {
  tcx: 'tcx links',
  clsact: 'clsact filters',
};

export interface HookProgram {
  readonly ifindex: number;
  readonly where: Hook;
  /** Whether a tcx link comes before those that are there; a filter has its priority. */
  readonly first?: boolean;
  /** At most 15 characters. */
  readonly name: string;
  readonly link: Uint8Array;
  /** What a filter gets; the same as `link` where a killed process leaves no device to hang it on. */
  readonly filter: Uint8Array;
  /** The tap it belongs to. */
  readonly tap: number;
}

/** What an attachment is, as data: with its program, another coordinator makes the same attachment of it. */
export type AttachmentHolding =
  /** A tcx bpf_link, by its descriptor. */
  | { readonly link: number; readonly programId: number }
  /** A filter of ours, and whether clsact was brought for it. */
  | { readonly clsact: boolean; readonly programId: number };

/** What one redirect needs to attach; one object for each redirect, since its programs are of one kind. */
export class Hooks {
  readonly #bpf: Bpf;
  readonly #netlink: RtNetlink;
  readonly #shim: Shim;
  readonly #device: string;
  #kind: RedirectKind;
  #settled = false;

  /** @param kind what is wanted: 'tcx' becomes 'clsact' on a kernel without it */
  constructor(bpf: Bpf, netlink: RtNetlink, shim: Shim, device: string, kind: RedirectKind) {
    this.#bpf = bpf;
    this.#netlink = netlink;
    this.#shim = shim;
    this.#device = device;
    this.#kind = kind;
  }

  /** Known once something is attached. */
  get kind(): RedirectKind {
    return this.#kind;
  }

  /**
   * What the programs before it take does not come to it. A link is made in the calling thread's network namespace, a
   * filter in that of the netlink socket.
   *
   * @throws ERR_KERNEL, ERR_PERMISSION, ERR_DEVICE_BUSY (an ingress qdisc is in the place of clsact)
   */
  attach(program: HookProgram): Attachment {
    if (this.#kind === 'tcx') {
      const link = TcxAttachment.make(this.#bpf, this.#shim, this.#device, program);
      if (typeof link !== 'number') {
        this.#settled = true;
        return link;
      }
      const lacking = link === Errno.EINVAL || link === Errno.ENOSYS || link === Errno.EOPNOTSUPP;
      if (this.#settled || !lacking) check(link, 'bpf(LINK_CREATE, tcx)', { device: this.#device });
      this.#kind = 'clsact';
    }
    return FilterAttachment.make(this.#bpf, this.#netlink, this.#shim, program);
  }

  /** What another coordinator has attached. */
  adopt(program: HookProgram, holding: AttachmentHolding): Attachment {
    return 'link' in holding
      ? TcxAttachment.adopt(this.#bpf, this.#shim, this.#device, program, holding)
      : FilterAttachment.adopt(this.#bpf, this.#netlink, this.#shim, program, holding);
  }
}

/** A program of ours where it was put. */
export interface Attachment {
  readonly program: HookProgram;
  readonly holding: AttachmentHolding;
  /** What has become of it that is not our doing; undefined if it stands. Asks the kernel. */
  fault(): string | undefined;
  /**
   * Puts it there again, wherever it is now.
   *
   * @param changed called when its holding is another, before what it was is closed
   * @throws as {@link Hooks.attach}
   */
  renew(changed: () => void): void;
  /** What stands before it and sees every packet first, for people; '' if nothing does. */
  before(): string;
  /** May be called twice. */
  detach(): void;
}

class TcxAttachment implements Attachment {
  readonly program: HookProgram;
  readonly #bpf: Bpf;
  readonly #shim: Shim;
  readonly #device: string;
  #link = -1;
  #programId = 0;

  private constructor(bpf: Bpf, shim: Shim, device: string, program: HookProgram) {
    this.#bpf = bpf;
    this.#shim = shim;
    this.#device = device;
    this.program = program;
  }

  /** @returns a negative errno where the kernel has no tcx, or refuses */
  static make(bpf: Bpf, shim: Shim, device: string, program: HookProgram): TcxAttachment | number {
    const made = new TcxAttachment(bpf, shim, device, program);
    const result = made.#attach();
    return result < 0 ? result : made;
  }

  static adopt(
    bpf: Bpf,
    shim: Shim,
    device: string,
    program: HookProgram,
    { link, programId }: { readonly link: number; readonly programId: number },
  ): TcxAttachment {
    const adopted = new TcxAttachment(bpf, shim, device, program);
    adopted.#link = link;
    adopted.#programId = programId;
    return adopted;
  }

  get holding(): AttachmentHolding {
    return { link: this.#link, programId: this.#programId };
  }

  fault(): string | undefined {
    if (this.#link < 0) return `its ${this.program.where} program was detached`;
    const { ifindex, programId } = this.#bpf.linkInfo(this.#link);
    if (ifindex !== this.program.ifindex) return `its ${this.program.where} program was detached`;
    return programId === this.#programId ? undefined : `its ${this.program.where} program was replaced`;
  }

  renew(changed: () => void): void {
    const old = this.#link;
    const result = this.#attach();
    changed();
    if (old >= 0) this.#shim.close(old);
    check(result, 'bpf(LINK_CREATE, tcx)', { device: this.#device });
  }

  before(): string {
    const { ifindex, where } = this.program;
    const programs = this.#bpf.tcxPrograms(ifindex, where);
    const others = programs.slice(0, Math.max(programs.indexOf(this.#programId), 0));
    return others.length === 0 ? '' : `tcx program ${others.join(', ')}`;
  }

  detach(): void {
    if (this.#link >= 0) this.#shim.close(this.#link);
    this.#link = -1;
  }

  #attach(): number {
    const { name, link, ifindex, where, first } = this.program;
    const fd = this.#bpf.load('sched_cls', name, link);
    try {
      this.#programId = this.#bpf.programInfo(fd).id;
      this.#link = this.#bpf.attachTcx(fd, ifindex, where, first);
    } finally {
      this.#shim.close(fd);
    }
    return this.#link;
  }
}

class FilterAttachment implements Attachment {
  readonly program: HookProgram;
  readonly #bpf: Bpf;
  readonly #netlink: RtNetlink;
  readonly #shim: Shim;
  #programId = 0;
  #attached = false;
  #clsact = false;

  private constructor(bpf: Bpf, netlink: RtNetlink, shim: Shim, program: HookProgram) {
    this.#bpf = bpf;
    this.#netlink = netlink;
    this.#shim = shim;
    this.program = program;
  }

  static make(bpf: Bpf, netlink: RtNetlink, shim: Shim, program: HookProgram): FilterAttachment {
    const made = new FilterAttachment(bpf, netlink, shim, program);
    made.renew(() => {});
    return made;
  }

  static adopt(
    bpf: Bpf,
    netlink: RtNetlink,
    shim: Shim,
    program: HookProgram,
    { clsact, programId }: { readonly clsact: boolean; readonly programId: number },
  ): FilterAttachment {
    const adopted = new FilterAttachment(bpf, netlink, shim, program);
    adopted.#programId = programId;
    adopted.#attached = true;
    adopted.#clsact = clsact;
    if (clsact) netlink.noteClsact(program.ifindex);
    return adopted;
  }

  get holding(): AttachmentHolding {
    return { clsact: this.#clsact, programId: this.#programId };
  }

  fault(): string | undefined {
    const { ifindex, where } = this.program;
    const own = this.#netlink
      .filters(ifindex, where)
      .find(({ handle, priority }) => handle === HANDLE && priority === PRIORITY);
    if (own === undefined) return `its ${where} filter was removed`;
    return own.programId === this.#programId ? undefined : `its ${where} filter was replaced`;
  }

  renew(changed: () => void): void {
    const { ifindex, where, name, filter, tap } = this.program;
    const fd = this.#bpf.load('sched_cls', name, filter);
    try {
      this.#programId = this.#bpf.programInfo(fd).id;
      if (this.#netlink.addClsact(ifindex)) this.#clsact = true;
      this.#netlink.addBpfFilter(ifindex, where, fd, filterName(where, tap), HANDLE, PRIORITY);
      this.#attached = true;
    } catch (error) {
      this.#netlink.releaseClsact(ifindex);
      throw error;
    } finally {
      this.#shim.close(fd);
    }
    changed();
  }

  before(): string {
    const { ifindex, where } = this.program;
    const others = this.#netlink
      .filters(ifindex, where)
      .filter(({ priority }) => priority < PRIORITY)
      .map(({ kind, priority }) => `${kind} filter of priority ${priority}`);
    return [...new Set(others)].join(', ');
  }

  detach(): void {
    const { ifindex, where, tap } = this.program;
    if (!this.#attached || ifindex === tap) return; // it goes with the tap
    this.#netlink.deleteBpfFilter(ifindex, where, HANDLE, PRIORITY);
    this.#attached = false;
    this.#netlink.releaseClsact(ifindex);
  }
}

/**
 * Repairs what has become of an attachment, and says what has come before it.
 *
 * @param renewed called when its holding is another
 */
export function tendAttachment(
  attachment: Attachment | undefined,
  device: string,
  upkeep: Upkeep,
  renewed: () => void,
): void {
  if (attachment === undefined) return;
  const fault = attachment.fault();
  if (fault !== undefined) upkeep.repair(device, fault, () => attachment.renew(renewed));
  const { where, ifindex } = attachment.program;
  const before = attachment.before();
  const detail = `${before} has come before ours at its ${where}: what that takes does not come to the port`;
  upkeep.tell(`${ifindex} ${where}`, before === '' ? undefined : changed(device, detail));
}

/** Ours alone: nobody else's filter has this place. */
const HANDLE = 0x7457;
const PRIORITY = 0x7457;

/** An egress filter says which tap it is for, so that the one in use is told from one left behind. */
const filterName = (where: Hook, tap: number): string =>
  where === 'egress' ? `twinpath ${tap}` : 'twinpath';

/**
 * Removes what a killed process left at the NetVSC. Before the capture redirect is attached, which is when no
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
