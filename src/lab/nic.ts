/**
 * One virtual NIC as its Hyper-V host sees it: a synthetic port that stays, a VF that comes and goes,
 * and the host's choice of the port by which frames for the guest's MAC are delivered.
 *
 * Made by Lab; one thread. Each act takes the instant just before its system call and leaves it in
 * `events`, on the clock of clock.ts, so that a ledger can lay losses beside causes. What the host does
 * in one system call happens before the method returns, also where it answers with a promise: only the
 * waiting afterwards is asynchronous.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import { Bpf } from '../kernel/bpf.ts';
import { inNamespace, openNamespace } from '../kernel/namespace.ts';
import { tcRedirect } from '../kernel/programs.ts';
import { IFF, RtNetlink } from '../kernel/rtnetlink.ts';
import type { PortRules } from './bridge.ts';
import { monotonicNanos } from './clock.ts';
import type { LabContext, NicEvent, NicEventKind, NicGeometry } from './context.ts';
import { drained, FORWARDING_MILLIS, until } from './wait.ts';

interface Vf {
  /** ifindex of the switch's end. */
  readonly port: number;
  /** Of the guest's end, in `namespace`; the name may change behind our back. */
  ifindex: number;
  name: string;
  namespace: string;
}

/**
 * The rules of both guest ports: the guest's MAC never moves by itself, nothing unknown is flooded
 * there, and what the guest sends by one of its two ports does not come back to it by the other.
 */
export const SYNTHETIC_PORT: PortRules = { learning: false, flood: false, isolated: true };
const VF_PORT: PortRules = { ...SYNTHETIC_PORT, multicastFlood: false, broadcastFlood: false };
/** In the guest, when the stand-in is a bridge: what has no known port goes by the synthetic one only. */
const VF_IN_GUEST: PortRules = { flood: false, multicastFlood: false, broadcastFlood: false, isolated: true };

const TAGS_IN_FRAMES = new Map([
  ['tx-vlan-hw-insert', false],
  ['tx-vlan-stag-hw-insert', false],
]);

const OPERSTATE_UP = 6;
const EBUSY = 16;

/** A NIC of the guest, made by {@link Lab.create}: see `lab.nic` and `lab.nics`. */
export class Nic {
  /** MAC address of its NetVSC stand-in and its VF. */
  readonly mac: string;
  /** IPv4 address of the guest on it: 10.77.0.2 for the first NIC. */
  readonly guestAddress: string;
  /** IPv4 address of the outside world on it: 10.77.0.1 for the first NIC. */
  readonly outsideAddress: string;
  /** 0 for the first NIC, whose devices are eth0 and vf0. */
  readonly number: number;
  /** What its host has done, in order. */
  readonly events: NicEvent[] = [];
  readonly #context: LabContext;
  readonly #geometry: NicGeometry;
  readonly #netvscIndex: number;
  #netvsc: string;
  #vf: Vf | undefined;
  #shortcutLink = -1;
  #dataPath: 'synthetic' | 'vf' = 'synthetic';

  constructor(context: LabContext, geometry: NicGeometry) {
    this.#context = context;
    this.#geometry = geometry;
    this.number = geometry.number;
    this.mac = geometry.mac;
    this.guestAddress = geometry.guestAddress;
    this.outsideAddress = geometry.outsideAddress;
    this.#netvsc = `eth${geometry.number}`;
    this.#netvscIndex = indexOf(context.guestLinks, this.#netvsc);
  }

  /** The NetVSC stand-in's name in the guest, now. */
  get netvsc(): string {
    return this.#netvsc;
  }

  /** The name of the device outside, which has `outsideAddress`. */
  get outsideDevice(): string {
    return `u${this.number}`;
  }

  /** The VF's name, wherever it is now; `undefined` while it is unplugged. */
  get vf(): string | undefined {
    return this.#vf?.name;
  }

  /** Where the host was last told to deliver; a VF that vanished by surprise may still be named here. */
  get dataPath(): 'synthetic' | 'vf' {
    return this.#dataPath;
  }

  /**
   * The host gives the guest a VF, and the guest opens it as hv_netvsc does. The data path stays where it
   * is. Resolves when the switch forwards on the new port.
   *
   * @param options `beforeOpening`: what happens while it is there and down. By default nothing, and no time passes;
   *   hv_netvsc leaves 100 ms (VF_TAKEOVER_INT)
   * @throws ERR_LAB when there is one already, ERR_KERNEL
   */
  async plug(options: { name?: string; beforeOpening?: () => Promise<void> } = {}): Promise<void> {
    const { name = `vf${this.number}`, beforeOpening } = options;
    const port = this.#insert(name);
    await beforeOpening?.();
    this.#open(this.#plugged());
    await this.#forwarding(port);
  }

  /**
   * Moves the data path. The forwarding entry changes in one store, before this returns a promise
   * unless the port does not forward yet.
   *
   * @throws ERR_LAB without a VF, ERR_TIMEOUT when the port stays without carrier
   */
  async moveDataPath(to: 'vf' | 'synthetic'): Promise<void> {
    const port = to === 'vf' ? this.#plugged().port : this.#geometry.syntheticPort;
    if (!this.#forwardTo(port, to)) {
      await until(`a carrier on the ${to} port`, FORWARDING_MILLIS, () => this.#forwardTo(port, to));
    }
  }

  /**
   * Takes the VF away as a Hyper-V host does that means well: the data path first, then nothing until
   * what was under way to the VF has arrived, then the device goes down in the guest, then it is removed.
   */
  async unplug(): Promise<void> {
    const vf = this.#plugged();
    await this.moveDataPath('synthetic');
    await drained(() => this.#passed(vf.port).toVf);
    if (vf.namespace === this.#context.guest) {
      this.#note('down', vf.name);
      this.#context.guestLinks.setLink(vf.ifindex, { up: false });
      // The guest's last frames may wait in this CPU's backlog, and deleting the device drops them there.
      await drained(() => this.#passed(vf.port).both);
    }
    this.#remove('delete');
  }

  /** The device vanishes while the data path may still point at it: frames for the guest are lost. @throws ERR_LAB without a VF */
  surprise(): void {
    this.#plugged();
    this.#remove('surprise');
  }

  /** The host sees that its VF port is gone and delivers by the synthetic one. */
  async hostNotices(): Promise<void> {
    await this.moveDataPath('synthetic');
  }

  /** As udev does while the VF comes up. Kernels before 6.2 rename only what is down; then it flaps too. */
  renameVf(name: string): void {
    const vf = this.#plugged();
    this.#withLinks(vf.namespace, (links) => this.#rename(links, vf.ifindex, name, 'rename-vf'));
    vf.name = name;
  }

  /** Renames the NetVSC stand-in, as udev does. */
  renameNetvsc(name: string): void {
    this.#rename(this.#context.guestLinks, this.#netvscIndex, name, 'rename-netvsc');
    this.#netvsc = name;
  }

  /** Moves the VF into another namespace, where it stays down, or back into the guest, which opens it. */
  moveVf(namespace: string): void {
    const vf = this.#plugged();
    const fd = openNamespace(this.#context.shim, namespace);
    try {
      this.#withLinks(vf.namespace, (links) => {
        this.#note('move-vf', vf.name);
        links.setLink(vf.ifindex, { netnsFd: fd });
      });
    } finally {
      this.#context.shim.close(fd);
    }
    vf.namespace = namespace;
    this.#withLinks(namespace, (links) => {
      vf.ifindex = indexOf(links, vf.name);
    });
    if (namespace === this.#context.guest) this.#open(vf);
  }

  /**
   * As fast as the kernel takes it. 'link' sets the VF down and up and leaves the data path alone;
   * 'device' moves the data path to the synthetic port, then deletes and creates the VF, which is
   * another device each time.
   *
   * @param times how often, at least 1; it ends up
   */
  async flap(times: number, { what = 'link' }: { what?: 'link' | 'device' } = {}): Promise<void> {
    const vf = this.#plugged();
    if (what === 'device') await this.moveDataPath('synthetic');
    for (let i = 0; i < times; i++) {
      if (what === 'link') {
        this.#note('down', vf.name);
        this.#context.guestLinks.setLink(vf.ifindex, { up: false });
        this.#note('up', vf.name);
        this.#context.guestLinks.setLink(vf.ifindex, { up: true });
      } else {
        this.#remove('delete');
        this.#insert(vf.name);
        this.#open(this.#plugged());
      }
    }
    await this.#forwarding(this.#plugged().port);
  }

  /** Carrier as the host gives or withholds it: the switch's end goes up or down, the guest's stays up. */
  async setCarrier(of: 'vf' | 'synthetic', on: boolean): Promise<void> {
    const port = of === 'vf' ? this.#plugged().port : this.#geometry.syntheticPort;
    this.#note(on ? 'carrier-on' : 'carrier-off', of === 'vf' ? this.#plugged().name : this.#netvsc);
    this.#context.hostLinks.setLink(port, { up: on });
    if (!on) return;
    await this.#forwarding(port);
    // The guest's end drops what it is to send until its own kernel has noticed (linkwatch, dev_activate).
    const end = of === 'vf' ? this.#plugged().ifindex : this.#netvscIndex;
    await until('a carrier in the guest', FORWARDING_MILLIS, () => {
      const link = this.#context.guestLinks.link(end);
      return link === undefined || (link.flags & IFF.UP) === 0 || link.operstate === OPERSTATE_UP;
    });
  }

  /**
   * The guest on its way to another host: the VF is taken, the synthetic path loses its carrier for a
   * while, and the new host gives another VF under another name. The data path stays synthetic.
   */
  async migrate(options: { name?: string; blackoutMillis?: number } = {}): Promise<void> {
    const usual = `vf${this.number}`;
    const { name = this.vf === usual ? `m${usual}` : usual, blackoutMillis = 50 } = options;
    if (this.vf !== undefined) await this.unplug();
    await this.setCarrier('synthetic', false);
    await sleep(blackoutMillis);
    await this.setCarrier('synthetic', true);
    await this.plug({ name });
  }

  #insert(name: string): number {
    const { hostBridge, hostLinks, hostEthtool, guestLinks, guestFd, guest, queues, mtu } = this.#context;
    if (this.#vf) {
      throw new TwinpathError('ERR_LAB', { device: this.#vf.name, detail: 'the VF is plugged in already' });
    }
    const port = this.#context.nextIndex();
    this.#note('plug', name);
    hostBridge.addVeth(
      { name: `v${this.number}`, ifindex: port },
      { name, address: this.mac, netnsFd: guestFd },
      { queues, mtu },
    );
    this.#vf = { port, ifindex: indexOf(guestLinks, name), name, namespace: guest };
    // On a wire a VLAN tag is in the frame: a veth would hand it over beside the packet.
    hostEthtool.setFeatures(port, TAGS_IN_FRAMES);
    hostBridge.addPort(port, this.#geometry.bridge, VF_PORT);
    hostLinks.setLink(port, { up: true });
    this.#shortcut(port);
    // What hv_netvsc does with its VF: takes it under its wing, and opens it.
    if (this.#context.standIn === 'bridge') {
      this.#context.guestBridge.addPort(this.#vf.ifindex, this.#netvscIndex, VF_IN_GUEST);
    }
    return port;
  }

  /**
   * What the VF has sent goes out, whatever becomes of the VF: a NIC does not take back what is on the
   * wire. A bridge would drop it, since it closes a port that loses its carrier. Before Linux 6.6 there is no
   * tcx and it does.
   */
  #shortcut(port: number): void {
    const { shim, host } = this.#context;
    inNamespace(shim, host, () => {
      const bpf = new Bpf(shim);
      const program = bpf.load('sched_cls', 'twinpath_lab', tcRedirect(this.#geometry.uplink));
      const link = bpf.attachTcx(program, port, 'ingress');
      shim.close(program);
      if (link >= 0) this.#shortcutLink = link;
    });
  }

  #open({ ifindex, name }: Vf): void {
    this.#note('up', name);
    this.#context.guestLinks.setLink(ifindex, { up: true });
  }

  #remove(kind: 'delete' | 'surprise'): void {
    const vf = this.#plugged();
    this.#note(kind, vf.name);
    this.#context.hostLinks.deleteLink(vf.port); // one end goes, and takes the other with it wherever that is
    this.release();
    this.#vf = undefined;
  }

  /** Closes what the lab holds of the VF beside the device itself. */
  release(): void {
    if (this.#shortcutLink >= 0) this.#context.shim.close(this.#shortcutLink);
    this.#shortcutLink = -1;
  }

  #rename(links: RtNetlink, ifindex: number, name: string, kind: NicEventKind): void {
    this.#note(kind, name);
    try {
      links.setLink(ifindex, { name });
    } catch (error) {
      if (!(error instanceof TwinpathError) || error.errno !== EBUSY) throw error;
      links.setLink(ifindex, { up: false });
      links.setLink(ifindex, { name });
      links.setLink(ifindex, { up: true });
    }
  }

  #forwardTo(port: number, to: 'vf' | 'synthetic'): boolean {
    const atNanos = monotonicNanos();
    if (!this.#context.hostBridge.forward(this.mac, port)) return false;
    const device = to === 'vf' ? this.#plugged().name : this.#netvsc;
    this.events.push({ kind: `datapath-${to}`, atNanos, device });
    this.#dataPath = to;
    return true;
  }

  async #forwarding(port: number): Promise<void> {
    await until('a carrier on the new port', FORWARDING_MILLIS, () => {
      const link = this.#context.hostLinks.link(port);
      // Gone, or its other end is: then somebody was quicker, and waiting would be in vain.
      return link === undefined || link.operstate === OPERSTATE_UP;
    });
  }

  /** Frames that a switch port has counted: towards the guest, and in both directions. */
  #passed(port: number): { toVf: number; both: number } {
    const seen = this.#context.hostLinks.link(port)?.statistics;
    if (!seen) return { toVf: 0, both: 0 };
    const toVf = seen.txPackets + seen.txDropped;
    return { toVf, both: toVf + seen.rxPackets + seen.rxDropped };
  }

  #plugged(): Vf {
    if (this.#vf) return this.#vf;
    const detail = 'it has no VF now';
    throw new TwinpathError('ERR_LAB', { device: this.#netvsc, detail, hint: 'plug() one first.' });
  }

  #withLinks(namespace: string, work: (links: RtNetlink) => void): void {
    const { shim, guest, guestLinks } = this.#context;
    const links = namespace === guest ? guestLinks : inNamespace(shim, namespace, () => RtNetlink.open(shim));
    try {
      work(links);
    } finally {
      if (links !== guestLinks) links.close();
    }
  }

  #note(kind: NicEventKind, device: string): void {
    this.events.push({ kind, atNanos: monotonicNanos(), device });
  }
}

function indexOf(links: RtNetlink, name: string): number {
  const link = links.link(name);
  if (!link) throw new TwinpathError('ERR_LAB', { device: name, detail: 'it is not where the lab put it' });
  return link.ifindex;
}
