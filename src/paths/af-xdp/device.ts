/**
 * AF_XDP on a network device: one socket per port queue, one XSKMAP, one XDP link. Coordinator only.
 *
 * The best mode the device offers is taken and reported: native with zero-copy, native copy, and the
 * kernel's generic hook as the last resort. sockets.ts opens and binds the sockets.
 *
 * The program is attached before the sockets are in the map: until {@link PathDevice.arm} the kernel keeps every
 * packet, and again from `disarm` on. In between a packet whose receive queue has no socket, because somebody has
 * added queues, may not go round the handler: see {@link AfXdpDevice.noticed}. All of it is descriptors: the kernel
 * undoes everything when the process dies. What is no descriptor, channels and features of the device, is put back
 * by `close`, and after a kill by the next start.
 */
import { check, Errno, errnoName, TwinpathError } from '../../errors.ts';
import { Bpf, type XdpMode } from '../../kernel/bpf.ts';
import { DeviceSettings, describeDrift, type HeldSettings } from '../../kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import { IFF } from '../../kernel/link.ts';
import { Unclaimed, xdpRedirect } from '../../kernel/programs.ts';
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { SettingsStore } from '../../kernel/settings-store.ts';
import type { Shim } from '../../kernel/shim.ts';
import { xdpStatistics } from '../../kernel/xdp-statistics.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { RETA_ENTRIES } from '../../memory/geometry.ts';
import { Driver, type PathId, Reader } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { RssMode } from '../../options.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { closeAfter, everyStep } from '../every-step.ts';
import { limitSentBytes, maxSentBytes, refuseLongPackets } from '../packet-size.ts';
import { openSegmentSocket, segmentsNote } from '../segments.ts';
import type { Surroundings } from '../upkeep.ts';
import { type Refusal, refusalOf } from './refusal.ts';
import {
  channelSetting,
  featureSetting,
  putBackSettings,
  settingsOf,
  UNWANTED_BY_GENERIC,
  UNWANTED_FEATURES,
} from './settings.ts';
import { XskSockets } from './sockets.ts';
import { spreadDevice } from './spread.ts';

/** The system call that fails where a card alone has no native XDP: see `AfXdpOptions.generic`. */
export const NATIVE_ATTACH = 'bpf(LINK_CREATE, XDP native)';

const NO_LINK = { ifindex: 0, programId: 0 };

export interface AfXdpOptions {
  /** What the device is to agree with, if it may be asked to. */
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
  /** Whether large segments of the machine's own stack may be sent here. */
  readonly segments?: boolean;
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
  readonly protect?: boolean;
  readonly ethtool: EthtoolNetlink;
  readonly store: SettingsStore;
  /** ifindex of the NetVSC that this is the VF of. */
  readonly netvsc?: number;
  /** Only native XDP will do. */
  readonly native?: boolean;
  /** For what to say of a refusal. */
  readonly netlink?: RtNetlink;
  /**
   * Whether the kernel's generic hook will do where the driver has none. Not where PASS gives packets to the stack at this
   * very device: the generic hook sees those again, and they would come round for ever. Default true.
   */
  readonly generic?: boolean;
  /** Hears what the path lives with, and a person should know. */
  readonly report?: (error: TwinpathError) => void;
}

/** See `PathDevice.holdings`. The sockets are in the path slots. */
export interface AfXdpHoldings {
  readonly link: Link;
  readonly description: PathDescription;
  readonly settings: HeldSettings;
  readonly armed: boolean;
  readonly serving: number;
  readonly programId: number;
  readonly hook: XdpMode;
  readonly missedBefore: number;
  readonly fds: Descriptors;
}

/** Descriptors beside the sockets; not positive where there is none. */
interface Descriptors {
  map: number;
  /** Value maps of the program: see `xdpRedirect`. */
  gate: number;
  unclaimed: number;
  program: number;
  attached: number;
  /** The packet socket for large segments, of all queues. */
  segments: number;
}

export class AfXdpDevice implements PathDevice {
  readonly description: PathDescription;
  changed = (): void => {};
  readonly #shim: Shim;
  readonly #bpf: Bpf;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  /** As the kernel last told. */
  #link: Link;
  readonly #options: AfXdpOptions;
  readonly #settings: DeviceSettings;
  readonly #sockets: XskSockets;
  /** Hardware queues in use: at most as many as the port has. */
  #serving = 0;
  readonly #fds: Descriptors = {
    ...{ map: -1, gate: -1, unclaimed: -1, program: -1, attached: -1, segments: -1 },
  };
  #armed = false;
  /** A program of the NetVSC's runs in the place of ours. */
  #covered = false;
  #programId = 0;
  #hook: XdpMode = 'native';
  #missedBefore = 0;

  constructor(shim: Shim, memory: Memory, port: number, path: PathId, link: Link, options: AfXdpOptions) {
    this.#shim = shim;
    this.#bpf = new Bpf(shim);
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.#link = link;
    this.#options = options;
    this.#sockets = new XskSockets(shim, memory, port, path, (detail) => this.#busy(detail));
    this.description = { driver: 'af-xdp', device: link.name, mode: '', redirect: 'xdp link' };
    if (options.protect) this.description.protects = 'platform';
    this.#settings = new DeviceSettings(options.store, link, (detail) =>
      this.#report(
        `its settings cannot be saved (${detail}): if this process is killed, they stay as the port has them`,
      ),
    );
  }

  get holdings(): AfXdpHoldings {
    return {
      ...{ link: this.#link, description: this.description, settings: this.#settings.held },
      ...{ serving: this.#serving, armed: this.#armed, programId: this.#programId, hook: this.#hook },
      ...{ missedBefore: this.#missedBefore, fds: this.#fds },
    };
  }

  /** Goes on with what another coordinator has opened. */
  adopt(held: AfXdpHoldings): this {
    const { description, settings, serving, armed, programId, hook, missedBefore, fds } = held;
    Object.assign(this.description, description);
    this.#settings.adopt(settings, settingsOf(this.#shim, this.#options.ethtool, this.#link.ifindex));
    this.#serving = serving;
    this.#armed = armed;
    this.#programId = programId;
    this.#hook = hook;
    this.#missedBefore = missedBefore;
    Object.assign(this.#fds, fds);
    return this;
  }

  /** In copy mode. To a zero-copy driver a socket that comes or goes is a reset. */
  get outlastsLink(): boolean {
    return this.#slot(0).reader === Reader.ASKED;
  }

  stopped(): void {
    for (let queue = 0; queue < this.#serving; queue++) {
      const slot = this.#slot(queue);
      if (slot.reader === Reader.DRIVER) slot.reader = Reader.STOPPED;
    }
  }

  /** The port's. */
  get #queues(): number {
    return this.#memory.layout.geometry.queues;
  }

  open(): void {
    this.#refuseWhatCannotWork();
    this.#limitLength(this.#link.mtu);
    this.#missedBefore = this.#missed();
    try {
      this.#takeChannels();
      this.#takeFeatures('features', UNWANTED_FEATURES);
      this.#spreadFlows();
      this.#keep('map', this.#bpf.xskMap(this.#serving));
      this.#keep('gate', this.#bpf.valueMap());
      this.#keep('unclaimed', this.#bpf.valueMap());
      this.#bpf.setValue(this.#fds.gate, Unclaimed.PASS);
      const { protect } = this.#options;
      const code = xdpRedirect(this.#fds.map, this.#fds.gate, this.#fds.unclaimed, protect);
      this.#keep('program', this.#bpf.load('xdp', 'twinpath', code));
      this.#programId = this.#bpf.programInfo(this.#fds.program).id;
      const hook = this.#attach();
      if (hook === 'generic') this.#takeFeatures('generic features', UNWANTED_BY_GENERIC);
      const zeroCopy = this.#sockets.bindAll(this.#link, this.#serving, hook === 'native');
      this.#delegate();
      this.#describeTags();
      this.description.mode = `${hook} ${zeroCopy ? 'zero-copy' : 'copy'}${this.#openSegmentSocket(zeroCopy)}`;
      this.changed();
    } catch (error) {
      closeAfter(this, error);
    }
  }

  arm(): void {
    for (let queue = 0; queue < this.#serving; queue++) {
      this.#bpf.updateMap(this.#fds.map, queue, this.#slot(queue).fd);
    }
    this.#armed = true;
    this.#setGate();
    this.changed();
  }

  disarm(): void {
    const { map } = this.#fds;
    if (map < 0) return;
    this.#armed = false;
    // A dead socket in the map swallows packets (bpf_redirect_map falls back for empty slots only): take each
    // out before it dies. Where the kernel refuses, the link goes all the same, and the map with it.
    everyStep([
      () => this.#setGate(),
      ...Array.from({ length: this.#serving }, (_, queue) => () => this.#bpf.deleteMap(map, queue)),
    ]);
  }

  /** The kernel has told something new of the device: its name, its master. */
  noticed(link: Link): void {
    const { master } = this.#link;
    this.#link = link;
    this.description.device = link.name;
    if (link.master !== master && this.#fds.map >= 0) this.#setGate();
  }

  /**
   * Somebody has changed settings of the device, or its driver did when it was set up: what the path needs is set again, and
   * what others did is told. Where the device refuses, the path goes on as well as it can: packets on queues that it has no socket for, `#setGate` says what becomes of.
   *
   * @throws ERR_DEVICE_SETTINGS if the path has to be opened anew for that: a veth does not run the program on queues
   *   that it gets later (drivers/net/veth.c, veth_set_channels)
   */
  settle(): void {
    for (const drift of this.#settings.reapply()) {
      const { name, result, reapplied } = drift;
      const detail = describeDrift(drift);
      if (!reapplied && result < 0 && name === 'channels' && this.#link.kind === 'veth') {
        throw new TwinpathError('ERR_DEVICE_SETTINGS', { device: this.#link.name, detail });
      }
      if (!drift.wasReset || !reapplied) this.#report(detail);
    }
    this.#describeTags();
    this.changed();
  }

  tend({ links, netvsc, upkeep, thorough }: Surroundings): void {
    const link = links.link(this.#link.ifindex);
    if (link === undefined || this.#fds.program < 0) return; // gone, or closed
    this.#limitLength(link.mtu);
    upkeep.tell('mtu', link.mtu < netvsc.mtu ? smallerMtu(link, netvsc) : undefined);
    if (netvsc.ifindex === link.master && this.#isUncovered(netvsc)) {
      upkeep.repair(link.name, `an XDP program of ${netvsc.name} had taken the place of ours`, () =>
        this.#attachAgain(),
      );
    }
    if (!thorough && link.xdpProgram === this.#programId) return;
    const { attached } = this.#fds;
    const { ifindex, programId } = attached < 0 ? NO_LINK : this.#bpf.linkInfo(attached);
    if (ifindex === link.ifindex && programId === this.#programId) return;
    const fault = ifindex === 0 ? 'our XDP program was detached from it' : 'our XDP program was replaced';
    upkeep.repair(link.name, fault, () => this.#attachAgain());
  }

  /**
   * Whether a program of the NetVSC has gone that came after ours. hv_netvsc sets the VF's program to its own, and to none
   * in the end; of both our link knows nothing.
   */
  #isUncovered({ xdpProgram }: Link): boolean {
    const covered = this.#covered;
    this.#covered = xdpProgram !== 0;
    return covered && !this.#covered;
  }

  #attachAgain(): void {
    const { ifindex, name } = this.#link;
    this.#shut('attached');
    const result = this.#bpf.attachXdp(this.#fds.program, ifindex, this.#hook);
    this.#keep('attached', result);
    if (result === Errno.EBUSY || result === Errno.EEXIST) {
      this.#busy('another XDP program has taken the place of ours');
    }
    // EINVAL: there is no such device any more. Its link says the same of one that went as of one that is detached.
    check(result === Errno.EINVAL ? Errno.ENODEV : result, 'bpf(LINK_CREATE, XDP)', { device: name });
  }

  close(): void {
    everyStep([
      () => this.disarm(),
      () => this.#shut('attached'),
      ...this.#sockets.closings,
      () => this.#shut('segments'),
      () => this.#shut('program'),
      () => this.#shut('map'),
      () => this.#shut('gate'),
      () => this.#shut('unclaimed'),
      () => this.#settings.restore(),
      () => this.changed(),
    ]);
  }

  /** The program stays attached, so that the device is not reset: closed sockets leave nothing in their rings. */
  closeQueues(): void {
    everyStep([() => this.disarm(), ...this.#sockets.closings, () => this.changed()]);
  }

  openQueues(): void {
    // What was counted so far is settled.
    this.#missedBefore = this.#missed();
    this.#bpf.setValue(this.#fds.unclaimed, 0);
    this.#sockets.bindAll(this.#link, this.#serving, false);
    this.#delegate();
    this.#shareSegmentSocket();
    this.changed();
  }

  #keep(which: keyof Descriptors, fd: number): void {
    this.#fds[which] = fd;
    this.changed();
  }

  /** Closes a descriptor that is open. Its number is free for others then: it is struck out at once. */
  #shut(which: keyof Descriptors): void {
    const fd = this.#fds[which];
    if (fd > 0) this.#shim.close(fd);
    this.#keep(which, -1);
  }

  dropped(queue: number): Record<KernelCounter, number> {
    const slot = this.#slot(queue);
    const { unclaimed } = this.#fds;
    // The device's queues without a socket are none of the port's: their packets are reported on queue 0.
    const rxUnclaimed = queue === 0 && unclaimed > 0 ? this.#bpf.value(unclaimed) : 0;
    const lostInDevice = queue === 0 ? Math.max(0, this.#missed() - this.#missedBefore) : 0;
    const none = { ...NOTHING_DROPPED, rxUnclaimed, lostInDevice };
    if (slot.driver !== Driver.AF_XDP) return none;
    const counted = xdpStatistics(this.#shim, slot.fd);
    if (counted === undefined) return none;
    const { rxDropped, rxInvalid, rxRingFull, rxFillEmpty, txInvalid } = counted;
    const { recalled } = slot; // made invalid by ourselves: see recall.ts
    return {
      ...{ rxDropped: rxDropped + rxInvalid, rxRingFull, rxFillEmpty, rxUnclaimed, lostInDevice },
      txInvalid: Math.max(0, txInvalid - recalled),
    };
  }

  /** What the device has ever had no buffer for, or 0. One that is set up anew under traffic has none for a while. */
  #missed(): number {
    return this.#options.netlink?.link(this.#link.ifindex)?.statistics?.rxMissed ?? 0;
  }

  #limitLength(mtu: number): void {
    const { frameSize } = this.#memory.layout.geometry;
    limitSentBytes(this.#memory, this.#port, this.#path, maxSentBytes(mtu, frameSize));
  }

  #slot(queue: number): PathSlot {
    return this.#sockets.slot(queue);
  }

  #refuseWhatCannotWork(): void {
    const { xdpProgram, master } = this.#link;
    refuseLongPackets(this.#link, this.#memory.layout.geometry.frameSize);
    if (xdpProgram !== 0) this.#busy(`XDP program ${xdpProgram} is attached`);
    const above = master === 0 ? undefined : this.#options.netlink?.link(master);
    if (above !== undefined && above.xdpProgram !== 0) {
      // The kernel takes no program below one (dev_xdp_attach, EEXIST); hv_netvsc runs its own on the VF, where no
      // message shows it.
      this.#busy(`XDP program ${above.xdpProgram} is attached to ${above.name} above it`, above.name);
    }
  }

  #takeChannels(): void {
    const { name, ifindex, numRxQueues } = this.#link;
    const { ethtool, store, rss } = this.#options;
    putBackSettings(this.#shim, ethtool, store, this.#link); // of a port that was killed: what it found is the original
    const have = ethtool.channels(ifindex);
    const serving = have === undefined ? numRxQueues : have.combined + have.rx;
    const { combined, rx, tx } = have ?? { combined: 0, rx: serving, tx: serving };
    const queues = this.#queues;
    const agreed = serving === queues;
    const split =
      (have?.maxCombined ?? 0) > 0
        ? { combined: queues, rx: 0, tx: 0 }
        : { combined: 0, rx: queues, tx: queues };
    // A number that is right already is watched over as well.
    const changed = this.#settings.set(
      channelSetting(ethtool, ifindex),
      agreed ? { combined, rx, tx } : split,
    );
    this.#serving = changed >= 0 ? queues : serving;
    this.changed();
    // With fewer than the port has, workers hand over what they receive and are handed what is to be sent.
    if (!agreed && changed < 0 && (serving > queues || rss === 'device')) {
      throw new TwinpathError('ERR_OPTION_INVALID', {
        device: name,
        detail: `it receives on ${serving} queues, the port has ${queues}, and it refuses to change`,
        hint: `Open the port with queues: ${serving}. If its RSS table was set by hand: "ethtool -X ${name} default".`,
      });
    }
  }

  /** Those that the driver holds on to stay; what comes of that `#describeTags` says. */
  #takeFeatures(kind: string, names: readonly string[]): void {
    const setting = featureSetting(this.#options.ethtool, this.#link.ifindex, kind, names);
    const now = setting.read();
    if (now === undefined) return;
    const off = Object.fromEntries(Object.keys(now).map((name) => [name, false]));
    const result = this.#settings.set(setting, off);
    // A device that has gone meanwhile refuses nothing; its DELLINK is under way.
    if (result < 0 && setting.read() !== undefined)
      this.#report(`it refuses to switch ${Object.keys(off).join(', ')} off (${errnoName(result)})`);
  }

  /** Whether a tag that was sent is in the packet: by AF_XDP there is nowhere else for it to be. */
  #describeTags(): void {
    const before = this.description.vlanTags;
    const active = this.#options.ethtool.features(this.#link.ifindex)?.active ?? new Set();
    const taken = UNWANTED_FEATURES.filter((name) => name.startsWith('rx-vlan') && active.has(name));
    const parses = taken.some((name) => name.endsWith('hw-parse'));
    // A veth carries the tag beside the packet if the other end was given it so, whatever this end says.
    this.description.vlanTags = parses
      ? 'lost'
      : this.#link.kind === 'veth'
        ? 'as the other end sends them'
        : 'kept';
    if (taken.length === 0 || before !== undefined) return;
    const loss = parses
      ? 'VLAN tags are lost by this VF'
      : 'frames of VLANs that the kernel does not know are dropped by this VF';
    this.#report(`${loss}: its driver does not let ${taken.join(', ')} be switched off`);
  }

  #spreadFlows(): void {
    if (this.#options.rss !== 'auto') return;
    const { bytes, layout } = this.#memory;
    const at = layout.redirection(this.#port);
    const wanted = {
      key: this.#options.rssKey,
      table: bytes.slice(at, at + RETA_ENTRIES),
      queues: this.#serving,
      isUp: (this.#link.flags & IFF.UP) !== 0,
    };
    const agrees = spreadDevice(this.#shim, this.#link.ifindex, wanted, this.#settings);
    if (this.#queues > 1)
      this.description.rss = agrees && this.#serving === this.#queues ? 'device' : 'software';
  }

  /**
   * What becomes of packets on queues without a socket. The kernel passes on to the NetVSC what a VF receives that
   * has joined it: there they come to the handler by the synthetic path, as they do on one card alone. Of another VF they would go round it, into
   * the machine: while the port is armed they are dropped, and counted.
   */
  #setGate(): void {
    const { netvsc = 0 } = this.#options;
    const { ifindex, master } = this.#link;
    const joined = netvsc !== 0 && (master === netvsc || ifindex === netvsc);
    this.#bpf.setValue(this.#fds.gate, this.#armed && !joined ? Unclaimed.DROP : Unclaimed.PASS);
  }

  #report(detail: string, hint?: string): void {
    const { name: device } = this.#link;
    this.#options.report?.(new TwinpathError('ERR_DEVICE_SETTINGS', { device, detail, hint }));
  }

  /** Queues that the device does not have send by the worker of one that it has. */
  #delegate(): void {
    for (let queue = this.#serving; queue < this.#queues; queue++) {
      this.#slot(queue).open(Driver.PROXY, { fd: queue % this.#serving, reader: Reader.NONE });
    }
  }

  /** @param owner where the program is that stands in the way */
  #busy(detail: string, owner = this.#link.name): never {
    throw new TwinpathError('ERR_DEVICE_BUSY', {
      device: this.#link.name,
      detail,
      hint: `Stop the program that uses it, or detach it: ip link set ${owner} xdp off.`,
    });
  }

  #attach(): XdpMode {
    let native = this.#tryToAttach('native');
    if (native >= 0) return 'native';
    const { name: device, ifindex } = this.#link;
    const text = this.#options.netlink?.xdpRefusal(ifindex, this.#fds.program);
    // What stood in the way may have gone between the two.
    if (text === undefined) native = this.#tryToAttach('native');
    if (native >= 0) return 'native';
    const { why, mend } = this.#refusal(native, text ?? '');
    const { native: only, generic = true } = this.#options;
    if (!generic && native !== Errno.ENODEV) {
      throw new TwinpathError('ERR_DEVICE_SETTINGS', {
        ...{ device, syscall: NATIVE_ATTACH, errno: -native },
        detail: `its driver takes no XDP program, and the port stays on the tap: ${why}`,
        hint: `${mend} The generic hook would see again what PASS gives the machine: it is used with host 'off' (--host off) alone.`.trimStart(),
      });
    }
    if (only) {
      throw new TwinpathError('ERR_DEVICE_SETTINGS', {
        ...{ device, syscall: 'bpf(LINK_CREATE, XDP)', errno: -native, detail: why },
        hint: `${mend} Or take the generic hook, which is slow: xdp: 'any' (--xdp any).`.trimStart(),
      });
    }
    check(this.#tryToAttach('generic'), 'bpf(LINK_CREATE, XDP)', { device });
    this.description.generic = [`${why}.`, mend].filter(Boolean).join(' ');
    return 'generic';
  }

  /** @returns a negative errno that another mode may not end in. @throws ERR_DEVICE_BUSY */
  #tryToAttach(mode: XdpMode): number {
    const result = this.#bpf.attachXdp(this.#fds.program, this.#link.ifindex, mode);
    if (result === Errno.EBUSY || result === Errno.EEXIST) this.#busy('an XDP program is attached');
    if (result < 0) return result;
    this.#hook = mode;
    this.#keep('attached', result);
    return result;
  }

  #refusal(errno: number, text: string): Refusal {
    const { ethtool } = this.#options;
    const { ifindex, name: device, mtu } = this.#link;
    const channels = ethtool.channels(ifindex);
    return refusalOf({
      ...{ device, errno, mtu, text },
      active: ethtool.features(ifindex)?.active ?? new Set(),
      queues: channels === undefined ? 0 : channels.combined + channels.rx,
      mostQueues: channels === undefined ? 0 : channels.maxCombined + channels.maxRx,
    });
  }

  /**
   * Not beside zero-copy: the driver takes frames from the transmit ring when it likes, and a segment would overtake
   * them. Returns what the description says of it.
   */
  #openSegmentSocket(zeroCopy: boolean): string {
    if (!this.#options.segments) return '';
    if (zeroCopy) return ', large segments cut';
    const fd = openSegmentSocket(this.#shim, this.#link.ifindex, 'direct');
    this.#keep('segments', fd);
    this.#shareSegmentSocket();
    return segmentsNote(fd);
  }

  #shareSegmentSocket(): void {
    for (let queue = 0; queue < this.#serving; queue++) {
      this.#slot(queue).segmentsFd = Math.max(0, this.#fds.segments);
    }
  }
}

function smallerMtu({ name, mtu }: Link, netvsc: Link): TwinpathError {
  return new TwinpathError('ERR_OPTION_INVALID', {
    device: name,
    detail: `its MTU is ${mtu} and that of ${netvsc.name} is ${netvsc.mtu}: longer packets are dropped while it sends`,
    hint: `Run "ip link set ${name} mtu ${netvsc.mtu}".`,
  });
}
