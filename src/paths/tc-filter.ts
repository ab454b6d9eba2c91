/**
 * A program attached as a cls_bpf filter under clsact, for kernels before 6.6. Coordinator only.
 *
 * A filter survives a kill of the process. Its program passes all packets to the kernel once the tap is gone, whatever its
 * rules, and the next start removes it.
 */
import type { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Hook } from '../kernel/traffic-control.ts';
import type { AttachmentHolding, TcAttachment, TcContext, TcProgram } from './tc-attachment.ts';

/** No other program's filter has this handle and this priority. */
const HANDLE = 0x7457;
const PRIORITY = 0x7457;

/** An egress filter names its tap, which tells a filter in use from one that a killed process left. */
const filterName = (where: Hook, tap: number): string =>
  where === 'egress' ? `twinpath ${tap}` : 'twinpath';

export class TcFilter implements TcAttachment {
  #program: TcProgram;
  readonly #context: TcContext;
  #programId = 0;
  #attached = false;
  #addedClsact = false;

  /** @param held what another coordinator has attached */
  constructor(
    context: TcContext,
    program: TcProgram,
    held?: { readonly clsact: boolean; readonly programId: number },
  ) {
    this.#program = program;
    this.#context = context;
    if (held === undefined) return;
    this.#programId = held.programId;
    this.#attached = true;
    this.#addedClsact = held.clsact;
    if (held.clsact) context.netlink.noteClsact(program.ifindex);
  }

  get program(): TcProgram {
    return this.#program;
  }

  get holding(): AttachmentHolding {
    return { clsact: this.#addedClsact, programId: this.#programId };
  }

  fault(): string | undefined {
    const { ifindex, where } = this.program;
    const own = this.#context.netlink
      .filters(ifindex, where)
      .find(({ handle, priority }) => handle === HANDLE && priority === PRIORITY);
    if (own === undefined) return `its ${where} filter was removed`;
    return own.programId === this.#programId ? undefined : `its ${where} filter was replaced`;
  }

  renew(changed: () => void): void {
    const { bpf, netlink, shim } = this.#context;
    const { ifindex, where, tap } = this.program;
    const fd = this.#load(this.program);
    try {
      this.#programId = bpf.programInfo(fd).id;
      if (netlink.addClsact(ifindex)) this.#addedClsact = true;
      netlink.addBpfFilter(ifindex, where, fd, filterName(where, tap), HANDLE, PRIORITY);
      this.#attached = true;
    } catch (error) {
      netlink.releaseClsact(ifindex);
      throw error;
    } finally {
      shim.close(fd);
    }
    changed();
  }

  replace(program: TcProgram): void {
    if (!this.#attached) return;
    const { bpf, netlink, shim } = this.#context;
    const { ifindex, where, tap } = program;
    const fd = this.#load(program);
    try {
      const { id } = bpf.programInfo(fd);
      // The kernel puts the new program in the place of the old one, which has the same handle (cls_bpf_change).
      netlink.addBpfFilter(ifindex, where, fd, filterName(where, tap), HANDLE, PRIORITY);
      this.#programId = id;
      this.#program = program;
    } finally {
      shim.close(fd);
    }
  }

  #load({ name, filter, tap }: TcProgram): number {
    const { bpf, shim } = this.#context;
    if (typeof filter !== 'function') return bpf.load('sched_cls', name, filter);
    const tapMap = bpf.presenceMap(tap);
    try {
      return bpf.load('sched_cls', name, filter(tapMap));
    } finally {
      shim.close(tapMap); // the program keeps it
    }
  }

  before(): string {
    const { ifindex, where } = this.program;
    const others = this.#context.netlink
      .filters(ifindex, where)
      .filter(({ priority }) => priority < PRIORITY)
      .map(({ kind, priority }) => `${kind} filter of priority ${priority}`);
    return [...new Set(others)].join(', ');
  }

  detach(): void {
    const { ifindex, where, tap } = this.program;
    if (!this.#attached || ifindex === tap) return; // the kernel removes it with the tap
    this.#context.netlink.deleteBpfFilter(ifindex, where, HANDLE, PRIORITY);
    this.#attached = false;
    this.#context.netlink.releaseClsact(ifindex);
  }
}

/**
 * Removes the filters that a killed process left at the NetVSC. Call it before the capture redirect is attached: until
 * then no ingress filter of ours is in use. An egress filter may be in use, and is removed only if its tap is gone.
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
