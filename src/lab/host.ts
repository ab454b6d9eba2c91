/**
 * The lab: a Hyper-V host with its virtual switch, one guest, and the world outside, in three network namespaces. Devices,
 * packets and netlink messages are the kernel's own.
 *
 * ```
 *   tp-<pid>-<n>-out          tp-<pid>-<n>-host                tp-<pid>-<n>-guest
 *   ┌──────────────────┐      ┌───────────────────────────┐      ┌─────────────────────────┐
 *   │ 10.77.0.1        │      │          br0              │      │ 10.77.0.2               │
 *   │ u0 ──────────────┼──────┼─ p0  (switch)  s0 ────────┼──────┼── eth0   NetVSC stand-in │
 *   │                  │      │                v0 ────────┼──────┼── vf0    the VF, same MAC│
 *   └──────────────────┘      └───────────────────────────┘      └─────────────────────────┘
 * ```
 *
 * Frames for the guest's MAC follow one static forwarding entry, to s0 or v0: the data path. Broadcast and multicast reach
 * the guest only through s0. With `standIn: 'bridge'` eth0 is a bridge over `syn0` (the other end of s0, with another MAC)
 * and the VF, whose master then is eth0, as under hv_netvsc. A second NIC is eth1 and vf1 on another switch, 10.78.0.x.
 *
 * One thread owns a lab. Needs root and iproute2. Several labs may exist at once, in any processes.
 */
import { TwinpathError } from '../errors.ts';
import { inNamespace, openNamespace } from '../kernel/namespace.ts';
import { loadShim, type Shim } from '../kernel/shim.ts';
import { indexOf, LabContext, type NicGeometry } from './context.ts';
import { switchOffloadsOff } from './devices.ts';
import { cleanUpStaleLabs, deleteNamespaces, freeLabName, ip, sysctl } from './namespaces.ts';
import { Nic } from './nic.ts';
import { SYNTHETIC_PORT } from './vf.ts';
import { FORWARDING_MILLIS, until } from './wait.ts';

export interface LabOptions {
  /** What plays NetVSC in the guest. Default 'veth'. */
  readonly standIn?: 'veth' | 'bridge';
  /** Queues of every device, 1 to 16. Default 2. */
  readonly queues?: number;
  /** NICs of the guest, 1 to 9. Default 1. */
  readonly nics?: number;
  /** 576 to 9000 bytes; native XDP on veth takes about 3500 at most. Default 1500. */
  readonly mtu?: number;
  /**
   * Both ends find each other's MAC by ARP. Default false: static neighbour entries, so that packets reach a handler that
   * does not answer ARP, and counters show only packets that were sent on purpose.
   */
  readonly arp?: boolean;
}

/** A lab, from {@link Lab.create} to {@link Lab.close}. Belongs to the thread that created it. */
export class Lab {
  /** What the names of its namespaces begin with. */
  readonly name: string;
  /** Name of the outside world's namespace, as `ip netns exec` takes it. Its address is 10.77.0.1. */
  readonly outside: string;
  /** Name of the Hyper-V host's namespace, which has the virtual switch. */
  readonly host: string;
  /** Name of the guest's namespace, in which a port is opened. Its address is 10.77.0.2. */
  readonly guest: string;
  /** What plays NetVSC in the guest. */
  readonly standIn: 'veth' | 'bridge';
  /** Queues of every device. */
  readonly queues: number;
  /** The guest's NICs, by their number. */
  readonly nics: Nic[] = [];
  readonly #context: LabContext;
  readonly #arp: boolean;
  #closed = false;

  private constructor(name: string, context: LabContext, outside: string, arp: boolean) {
    this.name = name;
    this.outside = outside;
    this.host = context.host.name;
    this.guest = context.guest.name;
    this.standIn = context.settings.standIn;
    this.queues = context.settings.queues;
    this.#context = context;
    this.#arp = arp;
  }

  /**
   * Builds a lab without VFs, in about 30 ms a NIC. Removes the labs of killed processes first.
   *
   * @throws ERR_OPTION_INVALID, ERR_LAB (iproute2 is missing or failed), ERR_PERMISSION
   */
  static async create(options: LabOptions = {}): Promise<Lab> {
    const { standIn = 'veth', queues = 2, nics = 1, mtu = 1500, arp = false } = options;
    if (standIn !== 'veth' && standIn !== 'bridge')
      throw invalid('standIn', `'veth' or 'bridge', not ${standIn}`);
    inRange('queues', queues, 1, 16);
    inRange('nics', nics, 1, 9);
    inRange('mtu', mtu, 576, 9000);
    const shim = loadShim();
    cleanUpStaleLabs();

    const name = freeLabName();
    const [outside, host, guest] = [`${name}-out`, `${name}-host`, `${name}-guest`];
    let lab: Lab | undefined;
    try {
      ip([outside, host, guest].map((namespace) => `netns add ${namespace}`));
      for (const namespace of [outside, host, guest]) disableOtherTraffic(shim, namespace);
      lab = new Lab(name, new LabContext(shim, { standIn, queues, mtu }, host, guest), outside, arp);
      for (let number = 0; number < nics; number++) lab.nics.push(await lab.#addNic(number));
      return lab;
    } catch (error) {
      if (lab) await lab.close();
      else deleteNamespaces([outside, host, guest]);
      throw error;
    }
  }

  /** Names of all three. */
  get namespaces(): readonly string[] {
    return [this.outside, this.host, this.guest];
  }

  /** The first NIC. */
  get nic(): Nic {
    return this.nics[0]!;
  }

  /**
   * Removes the devices and namespaces, even if processes run in them. May be called twice. Close ports and traffic first.
   * Devices are deleted one by one, because a namespace with an open socket outlives its name, and its devices with it.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { host, guest } = this.#context;
    for (const nic of this.nics) nic.release();
    try {
      for (const { links } of [host, guest]) {
        for (const { ifindex, kind } of links.links()) {
          if (kind !== 'veth' && kind !== 'bridge') continue;
          // It may have been deleted with its other end, or by another process in the namespace.
          if (links.link(ifindex)) links.deleteLink(ifindex);
        }
      }
    } finally {
      this.#context.close();
      deleteNamespaces(this.namespaces);
    }
  }

  /** For `await using`: {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #addNic(number: number): Promise<Nic> {
    const { shim, host, guest, settings } = this.#context;
    const { standIn, mtu } = settings;
    const subnet = `10.${77 + number}.0`;
    const mac = (end: number): string => `02:15:5d:77:0${number}:0${end}`;
    const [guestMac, outsideMac] = [mac(2), mac(1)];
    const netvsc = `eth${number}`;
    const synthetic = standIn === 'veth' ? netvsc : `syn${number}`;

    const bridge = this.#context.nextHostIndex();
    ip(
      [
        `link add br${number} index ${bridge} mtu ${mtu} type bridge stp_state 0 mcast_snooping 0`,
        `link set br${number} up`,
      ],
      this.host,
    );
    const [uplink, syntheticPort] = [this.#context.nextHostIndex(), this.#context.nextHostIndex()];
    const outsideFd = openNamespace(shim, this.outside);
    try {
      host.bridge.addVeth(
        { name: `p${number}`, ifindex: uplink },
        { name: `u${number}`, address: outsideMac, netnsFd: outsideFd },
        settings,
      );
    } finally {
      shim.close(outsideFd);
    }
    host.bridge.addVeth(
      { name: `s${number}`, ifindex: syntheticPort },
      { name: synthetic, address: standIn === 'veth' ? guestMac : mac(3), netnsFd: guest.fd },
      settings,
    );
    host.bridge.addPort(uplink, bridge, { learning: false });
    host.bridge.addPort(syntheticPort, bridge, SYNTHETIC_PORT);
    for (const port of [uplink, syntheticPort]) host.links.setLink(port, { up: true });

    inNamespace(shim, this.outside, () => switchOffloadsOff(shim, `u${number}`));
    ip(
      addressLines(`u${number}`, `${subnet}.1`, this.#arp ? undefined : [`${subnet}.2`, guestMac]),
      this.outside,
    );
    const enslave = [
      `link add ${netvsc} address ${guestMac} mtu ${mtu} type bridge stp_state 0 mcast_snooping 0`,
      `link set ${synthetic} master ${netvsc}`,
      `link set ${synthetic} type bridge_slave isolated on`,
      `link set ${synthetic} up`,
    ];
    ip(
      [
        ...(standIn === 'bridge' ? enslave : []),
        ...addressLines(netvsc, `${subnet}.2`, this.#arp ? undefined : [`${subnet}.1`, outsideMac]),
      ],
      this.guest,
    );

    const geometry: NicGeometry = {
      number,
      mac: guestMac,
      guestAddress: `${subnet}.2`,
      outsideAddress: `${subnet}.1`,
      bridge,
      uplink,
      syntheticPort,
      netvsc: indexOf(guest.links, netvsc),
    };
    // The kernel refuses an entry for a port without carrier, and carrier comes with the other end.
    const entries = [[outsideMac, uplink] as const, [guestMac, syntheticPort] as const];
    for (const [mac, port] of entries) {
      await until('carrier on the switch', FORWARDING_MILLIS, () => host.bridge.forward(mac, port));
    }
    return new Nic(this.#context, geometry);
  }
}

/** Lines of ip(8) for one end of a subnet. */
function addressLines(
  device: string,
  address: string,
  neighbour: readonly [string, string] | undefined,
): string[] {
  const lines = ['link set lo up', `link set ${device} up`, `addr add ${address}/24 dev ${device}`];
  if (neighbour)
    lines.push(`neigh replace ${neighbour[0]} lladdr ${neighbour[1]} dev ${device} nud permanent`);
  return lines;
}

/** No IPv6 neighbour discovery, no firewall hooks on bridged frames. */
function disableOtherTraffic(shim: Shim, namespace: string): void {
  for (const scope of ['all', 'default']) sysctl(shim, namespace, `ipv6/conf/${scope}/disable_ipv6`, '1');
  sysctl(shim, namespace, 'bridge/bridge-nf-call-iptables', '0');
}

function inRange(option: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(option, `a whole number from ${least} to ${most}, not ${value}`);
  }
}

function invalid(option: string, detail: string): TwinpathError {
  return new TwinpathError('ERR_OPTION_INVALID', { device: option, detail: `it takes ${detail}` });
}
