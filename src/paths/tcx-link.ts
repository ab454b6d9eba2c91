/** A program attached by a tcx bpf_link (Linux 6.6). The kernel removes it with the process. Coordinator only. */
import { check, Errno } from '../errors.ts';
import type { AttachmentHolding, TcAttachment, TcContext, TcProgram } from './tc-attachment.ts';

export class TcxLink implements TcAttachment {
  #program: TcProgram;
  readonly #context: TcContext;
  #link: number;
  #programId: number;

  /** @param held what another coordinator has attached */
  constructor(context: TcContext, program: TcProgram, held = { link: -1, programId: 0 }) {
    this.#program = program;
    this.#context = context;
    this.#link = held.link;
    this.#programId = held.programId;
  }

  get program(): TcProgram {
    return this.#program;
  }

  get holding(): AttachmentHolding {
    return { link: this.#link, programId: this.#programId };
  }

  /** @returns a negative errno if the kernel has no tcx, or refuses */
  attach(): number {
    const { bpf, shim } = this.#context;
    const { name, link, ifindex, where, first } = this.program;
    const fd = bpf.load('sched_cls', name, link);
    try {
      this.#programId = bpf.programInfo(fd).id;
      this.#link = bpf.attachTcx(fd, ifindex, where, first);
    } finally {
      shim.close(fd);
    }
    return this.#link;
  }

  fault(): string | undefined {
    const { ifindex, where } = this.program;
    if (this.#link < 0) return `its ${where} program was detached`;
    const now = this.#context.bpf.linkInfo(this.#link);
    if (now.ifindex !== ifindex) return `its ${where} program was detached`;
    return now.programId === this.#programId ? undefined : `its ${where} program was replaced`;
  }

  renew(changed: () => void): void {
    const old = this.#link;
    const result = this.attach();
    changed();
    if (old >= 0) this.#context.shim.close(old);
    check(result, 'bpf(LINK_CREATE, tcx)', { device: this.#context.device });
  }

  replace(program: TcProgram): void {
    const { bpf, shim, device } = this.#context;
    const fd = bpf.load('sched_cls', program.name, program.link);
    try {
      const { id } = bpf.programInfo(fd);
      const result = this.#link < 0 ? 0 : bpf.updateLink(this.#link, fd);
      // ENOLINK: the device is gone, or another program has detached the link, which the next check finds.
      if (result !== Errno.ENOLINK) check(result, 'bpf(LINK_UPDATE, tcx)', { device });
      this.#programId = id;
      this.#program = program;
    } finally {
      shim.close(fd);
    }
  }

  before(): string {
    const { ifindex, where } = this.program;
    const programs = this.#context.bpf.tcxPrograms(ifindex, where);
    const others = programs.slice(0, Math.max(programs.indexOf(this.#programId), 0));
    return others.length === 0 ? '' : `tcx program ${others.join(', ')}`;
  }

  detach(): void {
    if (this.#link >= 0) this.#context.shim.close(this.#link);
    this.#link = -1;
  }
}
