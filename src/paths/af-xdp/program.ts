/**
 * The XDP program of a device: its maps, its bpf_link, and attaching it in the best mode that the driver offers.
 * Coordinator only.
 *
 * Native XDP first. The kernel's generic hook is the last resort, and its use is reported with the driver's reason.
 *
 * The program redirects to sockets only between {@link XdpProgram.arm} and `disarm`. Before and after, the kernel keeps
 * every packet. In between, a packet may arrive on a queue without a socket, which another program has added: see
 * socket-map.ts. All of it is descriptors, which the kernel closes with the process.
 */
import { check, Errno, TwinpathError } from '../../errors.ts';
import { Bpf, type XdpMode } from '../../kernel/bpf.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import type { KernelRules } from '../../kernel/kernel-rules.ts';
import { Unclaimed } from '../../kernel/programs.ts';
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { Surroundings } from '../upkeep.ts';
import {
  type HeldLoader,
  type LoaderOptions,
  type ProgramDescriptors,
  ProgramLoader,
} from './program-loader.ts';
import { deviceBusy, type Refusal, refusalOf } from './refusal.ts';
import { SocketMap } from './socket-map.ts';

/** The system call in the error for a card alone without native XDP: see `ProgramOptions.generic`. */
export const NATIVE_ATTACH = 'bpf(LINK_CREATE, XDP native)';

const NO_LINK = { ifindex: 0, programId: 0 };

export interface ProgramOptions extends LoaderOptions {
  readonly ethtool: EthtoolNetlink;
  /** ifindex of the NetVSC that this is the VF of. */
  readonly netvsc?: number;
  /** Native XDP is required. */
  readonly native?: boolean;
  /** Asked for the kernel's reason when it refuses a program. */
  readonly netlink?: RtNetlink;
  /**
   * Whether the kernel's generic hook may be used if the driver has no native XDP. Not where PASS gives packets to the stack
   * at this very device: the generic hook would get those packets again, in an endless loop. Default true.
   */
  readonly generic?: boolean;
  /** Whether a packet may be in several buffers of the driver. */
  readonly frags?: boolean;
  /** Which packets are for the sockets: at first, see {@link XdpProgram.setRules}. */
  readonly rules?: KernelRules | undefined;
}

/** The part of the device's holdings that is the program's. */
export interface HeldProgram {
  readonly armed: boolean;
  readonly programId: number;
  readonly hook: XdpMode;
  readonly fds: ProgramDescriptors;
  readonly loader: HeldLoader;
}

export class XdpProgram {
  /** As of the kernel's last message. */
  link: Link;
  readonly fds: ProgramDescriptors = { map: -1, gate: -1, unclaimed: -1, program: -1, attached: -1 };
  readonly #shim: Shim;
  readonly #bpf: Bpf;
  readonly #loader: ProgramLoader;
  readonly #options: ProgramOptions;
  readonly #changed: () => void;
  /** Those of the program. */
  #rules: KernelRules | undefined;
  readonly #sockets: SocketMap;
  #programId = 0;
  #hook: XdpMode = 'native';
  /** A program of the NetVSC runs in place of ours. */
  #covered = false;

  /** @param changed called after each change of the holdings */
  constructor(shim: Shim, link: Link, options: ProgramOptions, changed: () => void) {
    this.link = link;
    this.#shim = shim;
    this.#bpf = new Bpf(shim);
    this.#loader = new ProgramLoader(this.#bpf, options);
    this.#options = options;
    this.#rules = options.rules;
    this.#changed = changed;
    this.#sockets = new SocketMap(this.#bpf, this.fds, options.netvsc ?? 0);
  }

  get held(): HeldProgram {
    const { held: loader } = this.#loader;
    return {
      armed: this.#sockets.armed,
      programId: this.#programId,
      hook: this.#hook,
      fds: this.fds,
      loader,
    };
  }

  adopt({ armed, programId, hook, fds, loader }: HeldProgram): void {
    this.#loader.adopt(loader);
    const { map, gate, unclaimed, program, attached } = fds;
    this.#sockets.armed = armed;
    this.#programId = programId;
    this.#hook = hook;
    Object.assign(this.fds, { map, gate, unclaimed, program, attached });
  }

  get isLoaded(): boolean {
    return this.fds.program > 0;
  }

  /** @throws ERR_DEVICE_BUSY if another program is attached to the device, or to the one above it */
  refuseOthers(): void {
    const { name, xdpProgram, master } = this.link;
    if (xdpProgram !== 0) throw deviceBusy(name, `XDP program ${xdpProgram} is attached`);
    const above = master === 0 ? undefined : this.#options.netlink?.link(master);
    if (above === undefined || above.xdpProgram === 0) return;
    // The kernel attaches no program below one (dev_xdp_attach, EEXIST). hv_netvsc runs its own on the VF as well, and no
    // message of the VF shows that.
    throw deviceBusy(
      name,
      `XDP program ${above.xdpProgram} is attached to ${above.name} above it`,
      above.name,
    );
  }

  /** @param queues the device's receive queues that get a socket */
  load(queues: number): void {
    this.#keep('map', this.#bpf.xskMap(queues));
    this.#keep('gate', this.#bpf.valueMap());
    this.#keep('unclaimed', this.#bpf.valueMap());
    this.#bpf.setValue(this.fds.gate, Unclaimed.PASS);
    this.#keep('program', this.#loader.first(this.fds, this.#rules, this.link));
    this.#programId = this.#bpf.programInfo(this.fds.program).id;
  }

  /**
   * Exchanges the rules between two packets, by exchanging the program of the link, which resets few devices. The same rules
   * again change nothing. After {@link load}.
   *
   * @throws ERR_KERNEL, ERR_PERMISSION: the rules before stay
   */
  setRules(rules: KernelRules | undefined): void {
    if (rules === this.#rules) return; // some drivers reset the device for another program
    const { program: old, attached } = this.fds;
    const program = this.#loader.load(this.fds, rules, this.link);
    try {
      const { id } = this.#bpf.programInfo(program);
      const result = attached > 0 ? this.#bpf.updateLink(attached, program) : 0;
      // ENOLINK: the device is gone, and its DELLINK is under way.
      if (result !== Errno.ENOLINK) check(result, 'bpf(LINK_UPDATE, XDP)', { device: this.link.name });
      this.#programId = id;
    } catch (error) {
      this.#shim.close(program);
      throw error;
    }
    this.#rules = rules;
    this.#keep('program', program);
    if (old > 0) this.#shim.close(old);
  }

  /** @returns why the driver runs no native XDP, if the generic hook is used. @throws TwinpathError */
  attach(): Refusal | undefined {
    let native = this.#tryToAttach('native');
    if (native >= 0) return undefined;
    const { name: device, ifindex } = this.link;
    const text = this.#options.netlink?.xdpRefusal(ifindex, this.fds.program);
    // If the driver takes the program now, the obstacle has gone in the meantime.
    if (text === undefined) native = this.#tryToAttach('native');
    if (native >= 0) return undefined;
    const refusal = this.#refusal(native, text ?? '');
    const { why, mend } = refusal;
    const { native: only, generic = true } = this.#options;
    if (!generic && native !== Errno.ENODEV) {
      throw new TwinpathError('ERR_DEVICE_SETTINGS', {
        device,
        syscall: NATIVE_ATTACH,
        errno: -native,
        detail: `its driver takes no XDP program, and the port stays on the tap: ${why}`,
        hint: `${mend} The generic hook would get passed packets again: it is used with host 'off' (--host off) only.`.trimStart(),
      });
    }
    if (only) {
      throw new TwinpathError('ERR_DEVICE_SETTINGS', {
        device,
        syscall: 'bpf(LINK_CREATE, XDP)',
        errno: -native,
        detail: why,
        hint: `${mend} Or use the generic hook, which is slow: xdp: 'any' (--xdp any).`.trimStart(),
      });
    }
    if (this.#loader.isBound) this.#loadForGeneric();
    check(this.#tryToAttach('generic'), 'bpf(LINK_CREATE, XDP)', { device });
    return refusal;
  }

  #loadForGeneric(): void {
    const program = this.#loader.loadForGeneric(this.fds, this.#rules, this.link);
    this.#shut('program');
    this.#keep('program', program);
    this.#programId = this.#bpf.programInfo(program).id;
  }

  get hook(): XdpMode {
    return this.#hook;
  }

  /** See {@link SocketMap.arm}. Again after a change of the stopped queues. */
  arm(sockets: readonly number[], stopped: readonly number[]): void {
    this.#sockets.arm(this.link, sockets, stopped);
    this.#changed();
  }

  get isArmed(): boolean {
    return this.#sockets.armed;
  }

  /** @param queues as for {@link load} */
  disarm(queues: number): void {
    this.#sockets.disarm(this.link, queues);
  }

  /** Repairs the attachment if others have altered it. @throws TwinpathError if that fails */
  tend(link: Link, { netvsc, upkeep, thorough }: Surroundings): void {
    if (netvsc.ifindex === link.master && this.#isUncovered(netvsc)) {
      upkeep.repair(link.name, `an XDP program of ${netvsc.name} had taken the place of ours`, () =>
        this.#attachAgain(),
      );
    }
    if (!thorough && link.xdpProgram === this.#programId) return;
    const { attached } = this.fds;
    const { ifindex, programId } = attached < 0 ? NO_LINK : this.#bpf.linkInfo(attached);
    if (ifindex === link.ifindex && programId === this.#programId) return;
    const fault = ifindex === 0 ? 'our XDP program was detached from it' : 'our XDP program was replaced';
    upkeep.repair(link.name, fault, () => this.#attachAgain());
  }

  /** Packets that were dropped on queues without a socket, since {@link load} or `resetUnclaimed`. */
  get unclaimed(): number {
    const { unclaimed } = this.fds;
    return unclaimed > 0 ? this.#bpf.value(unclaimed) : 0;
  }

  resetUnclaimed(): void {
    this.#bpf.setValue(this.fds.unclaimed, 0);
  }

  detach(): void {
    this.#shut('attached');
  }

  /** Steps that close the program and its maps, after {@link detach}: see `everyStep`. */
  get closings(): (() => void)[] {
    const fds = ['program', 'map', 'gate', 'unclaimed'] as const;
    return fds.map((which) => () => this.#shut(which));
  }

  /**
   * Whether a program of the NetVSC that replaced ours is gone. hv_netvsc sets the VF's program to its own, and to none in
   * the end. Our link shows neither.
   */
  #isUncovered({ xdpProgram }: Link): boolean {
    const covered = this.#covered;
    this.#covered = xdpProgram !== 0;
    return covered && !this.#covered;
  }

  #attachAgain(): void {
    const { ifindex, name } = this.link;
    this.detach();
    const result = this.#bpf.attachXdp(this.fds.program, ifindex, this.#hook);
    this.#keep('attached', result);
    if (result === Errno.EBUSY || result === Errno.EEXIST) {
      throw deviceBusy(name, 'another XDP program has taken the place of ours');
    }
    // EINVAL: the device is gone. Its link shows that in the same way as a detached program.
    check(result === Errno.EINVAL ? Errno.ENODEV : result, 'bpf(LINK_CREATE, XDP)', { device: name });
  }

  /** @returns a negative errno that another mode may not end in. @throws ERR_DEVICE_BUSY */
  #tryToAttach(mode: XdpMode): number {
    const { ifindex, name } = this.link;
    const result = this.#bpf.attachXdp(this.fds.program, ifindex, mode);
    if (result === Errno.EBUSY || result === Errno.EEXIST) {
      throw deviceBusy(name, 'an XDP program is attached');
    }
    if (result < 0) return result;
    this.#hook = mode;
    this.#keep('attached', result);
    return result;
  }

  #refusal(errno: number, text: string): Refusal {
    const { ethtool } = this.#options;
    const { ifindex, name: device, mtu } = this.link;
    const channels = ethtool.channels(ifindex);
    return refusalOf({
      device,
      errno,
      mtu,
      text,
      active: ethtool.features(ifindex)?.active ?? new Set(),
      queues: channels === undefined ? 0 : channels.combined + channels.rx,
      maxQueues: channels === undefined ? 0 : channels.maxCombined + channels.maxRx,
    });
  }

  #keep(which: keyof ProgramDescriptors, fd: number): void {
    this.fds[which] = fd;
    this.#changed();
  }

  /** Closes a descriptor that is open, and forgets it: another object may get the same number. */
  #shut(which: keyof ProgramDescriptors): void {
    const fd = this.fds[which];
    if (fd > 0) this.#shim.close(fd);
    this.#keep(which, -1);
  }
}
