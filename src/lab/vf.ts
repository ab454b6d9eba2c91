/**
 * The VF of a NIC while it is plugged in: a veth, one end in the guest, the other end a port of the host's switch.
 *
 * One thread, the NIC's. What is done here happens before a method returns.
 */
import { TwinpathError } from '../errors.ts';
import { Bpf } from '../kernel/bpf.ts';
import { inNamespace } from '../kernel/namespace.ts';
import { tcRedirect } from '../kernel/programs.ts';
import type { RtNetlink } from '../kernel/rtnetlink.ts';
import { indexOf, type LabContext, type NicGeometry } from './context.ts';
import type { PortRules } from './devices.ts';

/**
 * Rules of both switch ports of a guest: the guest's MAC moves only when the host moves it, frames for unknown MACs are
 * not flooded to the guest, and what the guest sends through one port does not return to it through the other.
 */
export const SYNTHETIC_PORT: PortRules = { learning: false, flood: false, isolated: true };
const VF_PORT: PortRules = { ...SYNTHETIC_PORT, multicastFlood: false, broadcastFlood: false };
/** In the guest, if the stand-in is a bridge: frames without a known port take the synthetic one only. */
const VF_IN_GUEST: PortRules = { flood: false, multicastFlood: false, broadcastFlood: false, isolated: true };

/** On a wire a VLAN tag is in the frame. A veth with these features would pass it as metadata. */
const TAGS_IN_FRAMES = new Map([
  ['tx-vlan-hw-insert', false],
  ['tx-vlan-stag-hw-insert', false],
]);

const EBUSY = 16;

export class Vf {
  /** ifindex of the switch port. */
  readonly port: number;
  readonly #context: LabContext;
  readonly #geometry: NicGeometry;
  #ifindex: number;
  #name: string;
  #namespace: string;
  #egressLink = -1;

  /** Creates the device in the guest, down and not yet connected. @throws ERR_KERNEL */
  constructor(context: LabContext, geometry: NicGeometry, name: string) {
    const { host, guest, settings } = context;
    this.#context = context;
    this.#geometry = geometry;
    this.port = context.nextHostIndex();
    host.bridge.addVeth(
      { name: `v${geometry.number}`, ifindex: this.port },
      { name, address: geometry.mac, netnsFd: guest.fd },
      settings,
    );
    this.#ifindex = indexOf(guest.links, name);
    this.#name = name;
    this.#namespace = guest.name;
  }

  get name(): string {
    return this.#name;
  }

  /** Of the end in the guest. */
  get ifindex(): number {
    return this.#ifindex;
  }

  get isInGuest(): boolean {
    return this.#namespace === this.#context.guest.name;
  }

  /** Frames that the switch port has counted: towards the guest, and in both directions. */
  get frames(): { toGuest: number; both: number } {
    const counted = this.#context.host.links.link(this.port)?.statistics;
    if (!counted) return { toGuest: 0, both: 0 };
    const toGuest = counted.txPackets + counted.txDropped;
    return { toGuest, both: toGuest + counted.rxPackets + counted.rxDropped };
  }

  /** Makes the host's end a port of the switch and, with a bridge as stand-in, the VF a port of the stand-in. */
  connect(): void {
    const { bridge, netvsc } = this.#geometry;
    const { host, guest, settings } = this.#context;
    host.ethtool.setFeatures(this.port, TAGS_IN_FRAMES);
    host.bridge.addPort(this.port, bridge, VF_PORT);
    host.links.setLink(this.port, { up: true });
    this.#redirectEgress();
    if (settings.standIn === 'bridge') guest.bridge.addPort(this.#ifindex, netvsc, VF_IN_GUEST);
  }

  setUp(up: boolean): void {
    this.#context.guest.links.setLink(this.#ifindex, { up });
  }

  /** Kernels before 6.2 rename only a device that is down; there the VF goes down and up. */
  rename(name: string): void {
    this.#context.withLinks(this.#namespace, (links) => renameLink(links, this.#ifindex, name));
    this.#name = name;
  }

  /** @param fd a descriptor of that namespace */
  moveTo(namespace: string, fd: number): void {
    this.#context.withLinks(this.#namespace, (links) => links.setLink(this.#ifindex, { netnsFd: fd }));
    this.#namespace = namespace;
    this.#context.withLinks(namespace, (links) => {
      this.#ifindex = indexOf(links, this.#name);
    });
  }

  /** Deletes the host's end, which deletes the other one too, in whatever namespace it is. */
  delete(): void {
    this.#context.host.links.deleteLink(this.port);
    this.release();
  }

  /** Closes what outlives the device. */
  release(): void {
    if (this.#egressLink >= 0) this.#context.shim.close(this.#egressLink);
    this.#egressLink = -1;
  }

  /**
   * Frames that the VF has sent leave the host even if the VF is deleted right after: a NIC does not take back what is on
   * the wire. The bridge would drop them, since it closes a port that loses its carrier. Before Linux 6.6 there is no tcx,
   * and the bridge does drop them.
   */
  #redirectEgress(): void {
    const { shim, host } = this.#context;
    inNamespace(shim, host.name, () => {
      const bpf = new Bpf(shim);
      const program = bpf.load('sched_cls', 'twinpath_lab', tcRedirect(this.#geometry.uplink));
      const link = bpf.attachTcx(program, this.port, 'ingress');
      shim.close(program);
      if (link >= 0) this.#egressLink = link;
    });
  }
}

/** Sets the device down for it if the kernel renames no device that is up. */
export function renameLink(links: RtNetlink, ifindex: number, name: string): void {
  try {
    links.setLink(ifindex, { name });
  } catch (error) {
    if (!(error instanceof TwinpathError) || error.errno !== EBUSY) throw error;
    links.setLink(ifindex, { up: false });
    links.setLink(ifindex, { name });
    links.setLink(ifindex, { up: true });
  }
}
