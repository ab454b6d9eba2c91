/**
 * AF_XDP on a network device: one socket per port queue (sockets.ts), one XDP program that redirects to them (program.ts),
 * and the settings that they need of the device (device-setup.ts). Coordinator only.
 */

import type { PortConfiguration } from '../../configuration.ts';
import { TwinpathError } from '../../errors.ts';
import type { XdpMode } from '../../kernel/bpf.ts';
import type { HeldSettings } from '../../kernel/device-settings.ts';
import type { KernelRules } from '../../kernel/kernel-rules.ts';
import { kernelIsAtLeast } from '../../kernel/machine.ts';
import type { Link } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { hasChains } from '../../memory/chains.ts';
import type { KernelCounter } from '../../memory/counters.ts';
import { Driver, type PathId, Reader } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { maxMtu } from '../../net/packet-size.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { closeAfter, everyStep } from '../every-step.ts';
import {
  LinkConfiguration,
  type LinkConfigurationHoldings,
  type LinkConfigurationOptions,
} from '../link-configuration.ts';
import { limitToMtu, refuseLongPackets, tooLongForChunk, usedFrame } from '../packet-limit.ts';
import { openSegmentSocket, segmentsNote } from '../segments.ts';
import type { Surroundings } from '../upkeep.ts';
import { DeviceSetup, type SetupOptions } from './device-setup.ts';
import { DeviceLosses } from './losses.ts';
import { type ProgramOptions, XdpProgram } from './program.ts';
import type { HeldLoader, ProgramDescriptors } from './program-loader.ts';
import { XskSockets } from './sockets.ts';

export interface AfXdpOptions extends SetupOptions, ProgramOptions {
  /** Whether large segments of the machine's own stack may be sent here. */
  readonly segments?: boolean;
  /** Absent: the device is not configured here. */
  readonly configuration?: Omit<LinkConfigurationOptions, 'changed'>;
}

/** See `PathDevice.holdings`. The sockets are in the path slots. */
export interface AfXdpHoldings {
  readonly link: Link;
  readonly description: PathDescription;
  readonly settings: HeldSettings;
  readonly armed: boolean;
  /** Receive queues of the device in use. */
  readonly serving: number;
  readonly programId: number;
  readonly hook: XdpMode;
  readonly loader: HeldLoader;
  readonly missedBefore: number;
  /** `segments`: the packet socket for large segments, of all queues. */
  readonly fds: ProgramDescriptors & { readonly segments: number };
  readonly configuration: LinkConfigurationHoldings | undefined;
  /** Queues that the device gives no flows, and that are not in the map of sockets. */
  readonly stopped: readonly number[];
}

export class AfXdpDevice implements PathDevice {
  readonly description: PathDescription;
  changed = (): void => {};
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  readonly #options: AfXdpOptions;
  readonly #setup: DeviceSetup;
  readonly #program: XdpProgram;
  readonly #sockets: XskSockets;
  readonly #losses: DeviceLosses;
  /** Absent if the port's synthetic path is on the same device, and configures it. */
  readonly #configuration: LinkConfiguration | undefined;
  /** As of the kernel's last message. */
  #link: Link;
  #segmentsFd = -1;
  #stopped: readonly number[] = [];
  /** The queues of the last configuration. */
  #active: readonly number[] | null = null;

  constructor(shim: Shim, memory: Memory, port: number, path: PathId, link: Link, options: AfXdpOptions) {
    this.#shim = shim;
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.#link = link;
    this.#options = options;
    this.description = { driver: 'af-xdp', device: link.name, mode: '', redirect: 'xdp link' };
    if (options.protect) this.description.protects = 'platform';
    const changed = (): void => this.changed();
    this.#setup = new DeviceSetup(memory, link, options, this.description, changed);
    const frags = hasChains(memory.layout.geometry.frameSize) && kernelIsAtLeast(6, 6);
    this.#program = new XdpProgram(shim, link, { ...options, frags }, changed);
    this.#sockets = new XskSockets(shim, memory, port, path);
    this.#losses = new DeviceLosses(shim, options.netlink, link.ifindex);
    const { configuration } = options;
    this.#configuration =
      configuration && new LinkConfiguration(shim, link, 'vf-link', { ...configuration, changed });
  }

  get holdings(): AfXdpHoldings {
    const { armed, programId, hook, fds, loader } = this.#program.held;
    return {
      link: this.#link,
      description: this.description,
      settings: this.#setup.held,
      serving: this.#setup.rxQueues,
      armed,
      programId,
      hook,
      loader,
      missedBefore: this.#losses.missedBefore,
      fds: { ...fds, segments: this.#segmentsFd },
      configuration: this.#configuration?.held,
      stopped: this.#stopped,
    };
  }

  /** Continues what another coordinator has opened. */
  adopt(held: AfXdpHoldings): this {
    Object.assign(this.description, held.description);
    this.#setup.adopt(held.settings, held.serving);
    this.#program.adopt(held);
    this.#segmentsFd = held.fds.segments;
    this.#losses.missedBefore = held.missedBefore;
    this.#stopped = held.stopped;
    if (held.configuration !== undefined) this.#configuration?.adopt(held.configuration);
    return this;
  }

  /** In copy mode. A zero-copy driver resets its rings for each socket that is opened or closed. */
  get outlastsLink(): boolean {
    return this.#slot(0).reader === Reader.ASKED;
  }

  open(): void {
    refuseLongPackets(this.#link, this.#memory.layout.geometry.frameSize);
    this.#sockets.refuseLong(this.#link);
    this.#program.refuseOthers();
    this.#configuration?.putBack();
    limitToMtu(this.#memory, this.#port, this.#path, this.#link.mtu);
    this.#losses.begin();
    try {
      this.#setup.open();
      this.#program.load(this.#setup.rxQueues);
      const refusal = this.#program.attach();
      if (refusal !== undefined) {
        this.description.generic = [`${refusal.why}.`, refusal.mend].filter(Boolean).join(' ');
        this.#setup.prepareGeneric();
      }
      const zeroCopy = this.#sockets.bindAll(this.#link, this.#setup.rxQueues, refusal === undefined);
      this.#checkChains();
      this.#delegate();
      this.#announceMetadata();
      this.#setup.describeTags();
      const mode = `${this.#program.hook} ${zeroCopy ? 'zero-copy' : 'copy'}`;
      this.description.mode = mode + this.#openSegmentSocket(zeroCopy);
      this.changed();
    } catch (error) {
      closeAfter(this, error);
    }
  }

  configure(wanted: PortConfiguration): TwinpathError[] {
    this.#active = wanted.queues;
    this.#serve(this.#stopped.filter((queue) => !this.#isActive(queue))); // before flows come
    const tooLong = wanted.mtu !== null && wanted.mtu > maxMtu(this.usedFrame) ? wanted.mtu : undefined;
    const taken = tooLong === undefined ? wanted : { ...wanted, mtu: null };
    const refusals = [...(this.#configuration?.apply(taken) ?? [])];
    const refusal = this.#setup.spread(wanted);
    if (refusal !== undefined) refusals.push(refusal);
    if (tooLong !== undefined) refusals.unshift(tooLongForChunk(this.#link.name, tooLong));
    const { mtu = this.#link.mtu } = this.#configuration ?? {};
    this.#limit(mtu);
    this.description.refused = refusals.map(({ message }) => message);
    return refusals;
  }

  /** Only if the device gives them no flows: else their workers hand the packets over. */
  stopQueues(): void {
    const queues = this.#setup.agrees ? [...this.#served.keys()] : [];
    this.#serve(queues.filter((queue) => !this.#isActive(queue)));
  }

  setRules(rules: KernelRules | undefined): void {
    this.#program.setRules(rules);
  }

  arm(): void {
    this.#program.arm(this.#fds, this.#stopped);
  }

  disarm(): void {
    this.#program.disarm(this.#setup.rxQueues);
  }

  /** The kernel has sent a message about the device: its name or its master may be new. */
  noticed(link: Link): void {
    this.#link = link;
    this.description.device = link.name;
    this.#setup.link = link;
    const joins = link.master !== this.#program.link.master;
    this.#program.link = link;
    if (joins) this.#serve(this.#stopped);
  }

  settle(): void {
    this.#setup.settle();
    this.changed();
  }

  tend(around: Surroundings): void {
    const { links, netvsc, upkeep } = around;
    const link = links.link(this.#link.ifindex);
    if (link === undefined || !this.#program.isLoaded) return; // gone, or closed
    const [own, other] = link.mtu < netvsc.mtu ? this.#asked(link, netvsc) : [link, netvsc];
    this.#limit(own.mtu);
    upkeep.tell('mtu', own.mtu < other.mtu ? smallerMtu(own, other) : undefined);
    this.#program.tend(link, around);
  }

  close(): void {
    everyStep([
      () => this.disarm(),
      () => this.#program.detach(),
      ...this.#sockets.closings,
      () => this.#closeSegmentSocket(),
      ...this.#program.closings,
      ...(this.#configuration?.closings ?? []),
      () => this.#setup.restore(),
      () => this.changed(),
    ]);
  }

  /** The program stays attached, which spares the device a reset. Closed sockets leave nothing in their rings. */
  closeQueues(): void {
    everyStep([() => this.disarm(), ...this.#sockets.closings, () => this.changed()]);
  }

  openQueues(): void {
    this.#losses.begin();
    this.#program.resetUnclaimed();
    this.#sockets.bindAll(this.#link, this.#setup.rxQueues, false);
    this.#checkChains();
    this.#delegate();
    this.#announceMetadata();
    this.#shareSegmentSocket();
    this.changed();
  }

  dropped(queue: number): Record<KernelCounter, number> {
    return this.#losses.of(queue, this.#slot(queue), () => this.#program.unclaimed);
  }

  /** What of a frame the path uses: see chains.ts. */
  get usedFrame(): number {
    return usedFrame(this.#memory.layout.geometry.frameSize, this.#slot(0).chains === 1);
  }

  /** @throws ERR_DEVICE_SETTINGS if the device has packets that need chains, and the sockets have none */
  #checkChains(): void {
    const { name, mtu } = this.#link;
    const { frameSize } = this.#memory.layout.geometry;
    if (!hasChains(frameSize)) return;
    this.description.multiBuffer = this.usedFrame === frameSize;
    if (mtu > maxMtu(this.usedFrame)) throw tooLongForChunk(name, mtu);
    this.#limit(mtu);
  }

  #limit(mtu: number): void {
    limitToMtu(this.#memory, this.#port, this.#path, mtu, this.usedFrame);
  }

  /** The same links, asked from the kernel: its messages about what the port has just set may be unread. */
  #asked(...links: readonly [Link, Link]): [Link, Link] {
    const [own, other] = links.map((link) => this.#options.netlink?.link(link.ifindex) ?? link);
    return [own!, other!];
  }

  #slot(queue: number): PathSlot {
    return this.#sockets.slot(queue);
  }

  #serve(stopped: readonly number[]): void {
    this.#stopped = stopped;
    this.changed();
    if (this.#program.isArmed) this.#program.arm(this.#fds, stopped);
  }

  #isActive(queue: number): boolean {
    return this.#active === null || this.#active.includes(queue);
  }

  get #fds(): number[] {
    return this.#served.map(({ fd }) => fd);
  }

  /** Slots of the queues that have a socket. */
  get #served(): PathSlot[] {
    return Array.from({ length: this.#setup.rxQueues }, (_, queue) => this.#slot(queue));
  }

  /** The workers of queues that the device does not have send through those that it has. */
  #delegate(): void {
    const { rxQueues } = this.#setup;
    for (let queue = rxQueues; queue < this.#memory.layout.geometry.queues; queue++) {
      this.#slot(queue).open(Driver.PROXY, { fd: queue % rxQueues, reader: Reader.NONE });
    }
  }

  /** Of all queues: one without a socket gets its packets from the others. */
  #announceMetadata(): void {
    const { functions, lacks } = this.#program.held.loader;
    const { queues } = this.#memory.layout.geometry;
    for (let queue = 0; queue < queues; queue++) this.#slot(queue).metadata = functions === undefined ? 0 : 1;
    if (Object.keys(lacks).length > 0) this.description.lacks = lacks;
  }

  /**
   * Not with zero-copy: the driver reads the transmit ring at any time, and a segment would overtake its packets. Returns
   * the description of it.
   */
  #openSegmentSocket(zeroCopy: boolean): string {
    if (!this.#options.segments) return '';
    if (zeroCopy) return ', large segments cut';
    this.#segmentsFd = openSegmentSocket(this.#shim, this.#link.ifindex, 'direct');
    this.changed();
    this.#shareSegmentSocket();
    return segmentsNote(this.#segmentsFd);
  }

  #shareSegmentSocket(): void {
    for (const slot of this.#served) slot.segmentsFd = Math.max(0, this.#segmentsFd);
  }

  #closeSegmentSocket(): void {
    if (this.#segmentsFd > 0) this.#shim.close(this.#segmentsFd);
    this.#segmentsFd = -1; // another object may get the same number
    this.changed();
  }
}

function smallerMtu({ name, mtu }: Link, netvsc: Link): TwinpathError {
  return new TwinpathError('ERR_OPTION_INVALID', {
    device: name,
    detail: `its MTU is ${mtu} and that of ${netvsc.name} is ${netvsc.mtu}: longer packets are dropped while it sends`,
    hint: `Run "ip link set ${name} mtu ${netvsc.mtu}".`,
  });
}
