/**
 * A virtual NIC as its Hyper-V host sees it: a synthetic port that stays, a VF that comes and goes, and the data path, by
 * which the host delivers frames for the guest's MAC.
 *
 * Each method records the time just before its system call in `events`, in nanoseconds of CLOCK_MONOTONIC, so that losses
 * can be compared with their causes. What the host does in one system call happens before the method returns, even if it
 * returns a promise: only the waiting after it is asynchronous. One thread, the lab's.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import { openNamespace } from '../kernel/namespace.ts';
import { IFF } from '../kernel/rtnetlink.ts';
import { nowNanos } from '../memory/shared.ts';
import type { LabContext, NicGeometry } from './context.ts';
import { renameLink, Vf } from './vf.ts';
import { drained, FORWARDING_MILLIS, until } from './wait.ts';

export type NicEventKind =
  | ('plug' | 'up' | 'down' | 'delete' | 'surprise')
  | ('datapath-vf' | 'datapath-synthetic')
  | ('rename-vf' | 'rename-netvsc' | 'move-vf')
  | ('carrier-off' | 'carrier-on');

export interface NicEvent {
  readonly kind: NicEventKind;
  /** CLOCK_MONOTONIC, just before the kernel was called. */
  readonly atNanos: number;
  /** The device or port it happened to. */
  readonly device: string;
}

/** What {@link Nic} and MemoryNic have in common. */
export interface HostNic {
  readonly guestAddress: string;
  readonly events: readonly NicEvent[];
  /** Name of the VF, while one is plugged in. */
  readonly vf: string | undefined;
  plug(options?: { name?: string }): Promise<void>;
  moveDataPath(to: 'vf' | 'synthetic'): Promise<void>;
  unplug(): Promise<void>;
  surprise(): void;
  hostNotices(): Promise<void>;
}

const OPERSTATE_UP = 6;

/** A NIC of the guest, made by {@link Lab.create}: see `lab.nic` and `lab.nics`. */
export class Nic implements HostNic {
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
  #netvsc: string;
  #vf: Vf | undefined;
  #dataPath: 'synthetic' | 'vf' = 'synthetic';

  constructor(context: LabContext, geometry: NicGeometry) {
    this.#context = context;
    this.#geometry = geometry;
    this.number = geometry.number;
    this.mac = geometry.mac;
    this.guestAddress = geometry.guestAddress;
    this.outsideAddress = geometry.outsideAddress;
    this.#netvsc = `eth${geometry.number}`;
  }

  /** The NetVSC stand-in's name in the guest, now. */
  get netvsc(): string {
    return this.#netvsc;
  }

  /** The name of the device outside, which has `outsideAddress`. */
  get outsideDevice(): string {
    return `u${this.number}`;
  }

  /** The VF's name, in whatever namespace it is; `undefined` while no VF is plugged in. */
  get vf(): string | undefined {
    return this.#vf?.name;
  }

  /** Where the host delivers. After a surprise it may still be the VF that has vanished. */
  get dataPath(): 'synthetic' | 'vf' {
    return this.#dataPath;
  }

  /**
   * The host gives the guest a VF, and the guest opens it as hv_netvsc does. The data path does not change. Resolves when
   * the switch forwards to the new port and the guest has noticed its carrier: not before would the guest ask for the data
   * path, and a bridge as stand-in drops what a port without carrier receives.
   *
   * @param options `beforeOpening` runs while the VF is there and down; hv_netvsc leaves 100 ms (VF_TAKEOVER_INT).
   *   Default: the VF is opened at once
   * @throws ERR_LAB if a VF is plugged in already, ERR_KERNEL
   */
  async plug(options: { name?: string; beforeOpening?: () => Promise<void> } = {}): Promise<void> {
    const { name = `vf${this.number}`, beforeOpening } = options;
    const { port } = this.#insert(name);
    await beforeOpening?.();
    this.#setUp(this.#plugged(), true);
    await this.#forwarding(port);
    await this.#noticed('vf');
  }

  /**
   * Moves the data path. The forwarding entry changes in one store, before this returns its promise, unless the port does
   * not forward yet.
   *
   * @throws ERR_LAB without a VF, ERR_TIMEOUT if the port stays without carrier
   */
  async moveDataPath(to: 'vf' | 'synthetic'): Promise<void> {
    const port = this.#portTo(to);
    if (!this.#forwardTo(port, to)) {
      await until(`a carrier on the ${to} port`, FORWARDING_MILLIS, () => this.#forwardTo(port, to));
    }
  }

  /**
   * Takes the VF away without loss, as a Hyper-V host does: moves the data path, waits until the VF has delivered what
   * was under way to it, sets it down in the guest, then deletes it.
   */
  async unplug(): Promise<void> {
    const vf = this.#plugged();
    await this.moveDataPath('synthetic');
    await drained(() => vf.frames.toGuest);
    if (vf.isInGuest) {
      this.#setUp(vf, false);
      // The guest's last frames may wait in this CPU's backlog. Deleting the device would drop them there.
      await drained(() => vf.frames.both);
    }
    this.#delete('delete');
  }

  /** The device vanishes while the data path may still point at it: frames for the guest are lost. @throws ERR_LAB without a VF */
  surprise(): void {
    this.#delete('surprise');
  }

  /** The host notices that its VF port has vanished and moves the data path to the synthetic one. */
  async hostNotices(): Promise<void> {
    await this.moveDataPath('synthetic');
  }

  /** As udev does while the VF comes up. Kernels before 6.2 rename only a device that is down; there it also flaps. */
  renameVf(name: string): void {
    const vf = this.#plugged();
    this.#record('rename-vf', name);
    vf.rename(name);
  }

  /** Renames the NetVSC stand-in, as udev does. */
  renameNetvsc(name: string): void {
    this.#record('rename-netvsc', name);
    renameLink(this.#context.guest.links, this.#geometry.netvsc, name);
    this.#netvsc = name;
  }

  /** Moves the VF into another namespace, where it stays down, or back into the guest, which opens it. */
  moveVf(namespace: string): void {
    const { shim } = this.#context;
    const vf = this.#plugged();
    const fd = openNamespace(shim, namespace);
    try {
      this.#record('move-vf', vf.name);
      vf.moveTo(namespace, fd);
    } finally {
      shim.close(fd);
    }
    if (vf.isInGuest) this.#setUp(vf, true);
  }

  /**
   * Flaps as fast as the kernel can. 'link' sets the VF down and up and does not touch the data path. 'device' moves the
   * data path to the synthetic port, then deletes and creates the VF, which is another device each time.
   *
   * @param times at least 1; the VF is up at the end
   */
  async flap(times: number, { what = 'link' }: { what?: 'link' | 'device' } = {}): Promise<void> {
    const vf = this.#plugged();
    if (what === 'device') await this.moveDataPath('synthetic');
    for (let i = 0; i < times; i++) {
      if (what === 'link') {
        this.#setUp(vf, false);
        this.#setUp(vf, true);
      } else {
        this.#delete('delete');
        this.#setUp(this.#insert(vf.name), true);
      }
    }
    await this.#forwarding(this.#plugged().port);
    await this.#noticed('vf');
  }

  /** Gives or withholds carrier as the host does: the switch's end goes up or down, the guest's end stays up. */
  async setCarrier(of: 'vf' | 'synthetic', on: boolean): Promise<void> {
    const port = this.#portTo(of);
    this.#record(on ? 'carrier-on' : 'carrier-off', this.#nameOf(of));
    this.#context.host.links.setLink(port, { up: on });
    if (!on) return;
    await this.#forwarding(port);
    await this.#noticed(of);
  }

  /**
   * The guest moves to another host: the VF is unplugged, the synthetic path loses its carrier for a while, and the new
   * host plugs in a VF with another name. The data path stays synthetic.
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

  /** Closes what the lab holds of the VF apart from the device. */
  release(): void {
    this.#vf?.release();
  }

  #insert(name: string): Vf {
    if (this.#vf) {
      throw new TwinpathError('ERR_LAB', { device: this.#vf.name, detail: 'the VF is plugged in already' });
    }
    this.#record('plug', name);
    this.#vf = new Vf(this.#context, this.#geometry, name);
    this.#vf.connect();
    return this.#vf;
  }

  #setUp(vf: Vf, up: boolean): void {
    this.#record(up ? 'up' : 'down', vf.name);
    vf.setUp(up);
  }

  #delete(kind: 'delete' | 'surprise'): void {
    const vf = this.#plugged();
    this.#record(kind, vf.name);
    vf.delete();
    this.#vf = undefined;
  }

  #forwardTo(port: number, to: 'vf' | 'synthetic'): boolean {
    const atNanos = nowNanos();
    if (!this.#context.host.bridge.forward(this.mac, port)) return false;
    this.events.push({ kind: `datapath-${to}`, atNanos, device: this.#nameOf(to) });
    this.#dataPath = to;
    return true;
  }

  async #forwarding(port: number): Promise<void> {
    await until('a carrier on the new port', FORWARDING_MILLIS, () => {
      const link = this.#context.host.links.link(port);
      // If either end has been deleted meanwhile, there is nothing to wait for.
      return link === undefined || link.operstate === OPERSTATE_UP;
    });
  }

  /** The guest's end drops what it sends and receives until its own kernel has noticed (linkwatch, dev_activate). */
  async #noticed(of: 'vf' | 'synthetic'): Promise<void> {
    const end = of === 'vf' ? this.#vf?.ifindex : this.#geometry.netvsc;
    await until('a carrier in the guest', FORWARDING_MILLIS, () => {
      const link = end === undefined ? undefined : this.#context.guest.links.link(end);
      return link === undefined || (link.flags & IFF.UP) === 0 || link.operstate === OPERSTATE_UP;
    });
  }

  #portTo(path: 'vf' | 'synthetic'): number {
    return path === 'vf' ? this.#plugged().port : this.#geometry.syntheticPort;
  }

  #nameOf(path: 'vf' | 'synthetic'): string {
    return path === 'vf' ? this.#plugged().name : this.#netvsc;
  }

  #plugged(): Vf {
    if (this.#vf) return this.#vf;
    const detail = 'it has no VF now';
    throw new TwinpathError('ERR_LAB', { device: this.#netvsc, detail, hint: 'plug() one first.' });
  }

  #record(kind: NicEventKind, device: string): void {
    this.events.push({ kind, atNanos: nowNanos(), device });
  }
}
