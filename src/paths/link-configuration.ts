/**
 * Applies a port's configuration to one network device: its MTU and MAC address, by rtnetlink; the addresses that it accepts,
 * as memberships of a packet socket. Coordinator only.
 *
 * The kernel counts memberships for each socket and drops them when the socket is closed, so that a killed port leaves none
 * (net/packet/af_packet.c, packet_mc_add, packet_flush_mclist). MTU and MAC address are saved before they are changed: see
 * kernel/device-settings.ts.
 */
import { MIN_MTU, type PortConfiguration } from '../configuration.ts';
import { Errno, TwinpathError } from '../errors.ts';
import {
  DeviceSettings,
  type HeldSettings,
  notSaved,
  restoreSaved,
  type Setting,
} from '../kernel/device-settings.ts';
import type { Link } from '../kernel/link.ts';
import type { LinkChange, RtNetlink } from '../kernel/rtnetlink.ts';
import type { SettingsStore, StoredPurpose } from '../kernel/settings-store.ts';
import type { Shim } from '../kernel/shim.ts';
import { macBytes, normalizeMac } from '../net/mac.ts';

/** include/uapi/linux/if_packet.h, socket.h */
const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_DROP_MEMBERSHIP = 2;
const MR = { multicast: 0, promiscuous: 1, allMulticast: 2, unicast: 3 } as const;
/** struct packet_mreq: ifindex, type, length of the address, address. */
const PACKET_MREQ = 16;

/** What a device accepts beside its own address: 'promiscuous', 'unicast 02:00:00:00:00:07'… */
type Membership = string;

/** See `PathDevice.holdings`. */
export interface LinkConfigurationHoldings {
  readonly settings: HeldSettings;
  readonly memberships: readonly Membership[];
  /** The packet socket, or 0. */
  readonly fd: number;
}

export interface LinkConfigurationOptions {
  readonly netlink: RtNetlink;
  readonly store: SettingsStore;
  /** Gets errors that the port goes on without. */
  readonly report?: (error: TwinpathError) => void;
  /** Called after each change of the holdings. */
  readonly changed: () => void;
}

export class LinkConfiguration {
  readonly #shim: Shim;
  readonly #link: Link;
  readonly #options: LinkConfigurationOptions;
  readonly #settings: DeviceSettings;
  readonly #store: SettingsStore;
  #memberships: readonly Membership[] = [];
  #fd = 0;
  #mtu: number | undefined;

  constructor(shim: Shim, link: Link, purpose: StoredPurpose, options: LinkConfigurationOptions) {
    this.#shim = shim;
    this.#link = link;
    this.#options = options;
    this.#store = options.store.for(purpose);
    const unsaved = (why: string): void =>
      options.report?.(
        new TwinpathError('ERR_DEVICE_SETTINGS', { device: link.name, detail: notSaved(why) }),
      );
    this.#settings = new DeviceSettings(this.#store, link, unsaved, options.changed);
  }

  get held(): LinkConfigurationHoldings {
    return { settings: this.#settings.held, memberships: this.#memberships, fd: this.#fd };
  }

  /** Continues what another coordinator has applied. */
  adopt({ settings, memberships, fd }: LinkConfigurationHoldings): void {
    this.#settings.adopt(settings, linkSettings(this.#options.netlink, this.#link.ifindex));
    this.#memberships = memberships;
    this.#fd = fd;
  }

  /** The device's MTU, as read by the last {@link apply}; undefined before. */
  get mtu(): number | undefined {
    return this.#mtu;
  }

  /** Puts back what a killed port has changed. Before the first {@link apply}. */
  putBack(): void {
    putBackLink(this.#options.netlink, this.#store, this.#link);
  }

  /**
   * Applies a configuration, in this order: MTU, MAC address, memberships. What is refused does not keep the rest from being
   * applied.
   *
   * @returns the refusals
   */
  apply(wanted: PortConfiguration): TwinpathError[] {
    const refusals = [this.#set('mtu', wanted.mtu), this.#set('mac', wanted.mac), ...this.#accept(wanted)];
    this.#mtu = this.#options.netlink.link(this.#link.ifindex)?.mtu;
    this.#options.changed();
    return refusals.filter((refusal) => refusal !== undefined);
  }

  /** Puts back what was found. The device may be gone. */
  get closings(): (() => void)[] {
    return [
      () => this.#settings.restore(),
      () => {
        if (this.#fd > 0) this.#shim.close(this.#fd);
        this.#fd = 0; // another object may get the same number
        this.#memberships = [];
      },
      this.#options.changed,
    ];
  }

  #set(name: 'mtu' | 'mac', value: number | string | null): TwinpathError | undefined {
    const setting = linkSettings(this.#options.netlink, this.#link.ifindex).find((one) => one.name === name)!;
    const result = value === null ? this.#settings.undo(name) : this.#settings.set(setting, value);
    if (result >= 0) {
      const reading = value === null ? null : setting.read();
      if (reading === value || reading === undefined) return undefined;
      this.#settings.undo(name);
      return this.#refusal(`it has ${name} ${reading} after it was set to ${value}`);
    }
    if (setting.read() === undefined) return undefined; // it is gone, and its DELLINK is under way
    return this.#refusal(
      `it refuses ${name} ${value ?? 'from before'}${reasonOf(setting)}`,
      result,
      'RTM_SETLINK',
    );
  }

  #accept(wanted: PortConfiguration): TwinpathError[] {
    const memberships = membershipsOf(wanted);
    const added = memberships.filter((one) => !this.#memberships.includes(one));
    const dropped = this.#memberships.filter((one) => !memberships.includes(one));
    if (added.length === 0 && dropped.length === 0) return [];
    if (this.#fd === 0) {
      const fd = this.#shim.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0); // protocol 0: it receives nothing
      if (fd < 0) return [this.#refusal(`no packet socket for ${added.join(', ')}`, fd, 'socket(AF_PACKET)')];
      this.#fd = fd;
    }
    const refusals: TwinpathError[] = [];
    for (const membership of added) {
      const result = this.#change(PACKET_ADD_MEMBERSHIP, membership);
      if (result >= 0) this.#memberships = [...this.#memberships, membership];
      else if (result !== Errno.ENODEV)
        refusals.push(this.#refusal(`it refuses ${membership}`, result, 'setsockopt(PACKET_ADD_MEMBERSHIP)'));
    }
    for (const membership of dropped) {
      this.#change(PACKET_DROP_MEMBERSHIP, membership); // a device that is gone has dropped it
      this.#memberships = this.#memberships.filter((one) => one !== membership);
    }
    return refusals;
  }

  #change(option: number, membership: Membership): number {
    const [kind, address = ''] = membership.split(' ') as [keyof typeof MR, string?];
    const request = new DataView(new ArrayBuffer(PACKET_MREQ));
    request.setInt32(0, this.#link.ifindex, true);
    request.setUint16(4, MR[kind], true);
    const bytes = address === '' ? new Uint8Array(0) : macBytes(address);
    request.setUint16(6, bytes.length, true);
    new Uint8Array(request.buffer).set(bytes, 8);
    return this.#shim.setsockopt(this.#fd, SOL_PACKET, option, request, PACKET_MREQ);
  }

  #refusal(detail: string, errno?: number, syscall?: string): TwinpathError {
    const { name } = this.#link;
    const known = errno === undefined ? {} : { errno: -errno, syscall };
    return new TwinpathError('ERR_DEVICE_SETTINGS', { device: name, detail, ...known });
  }
}

function membershipsOf({ unicast, multicast, promiscuous, allMulticast }: PortConfiguration): Membership[] {
  return [
    ...unicast.map((address) => `unicast ${address}`),
    ...multicast.map((address) => `multicast ${address}`),
    ...(promiscuous ? ['promiscuous'] : []),
    ...(allMulticast ? ['allMulticast'] : []),
  ];
}

/** A setting that remembers the kernel's own words for its last refusal. */
interface LinkSetting extends Setting<unknown> {
  reason: string;
}

function linkSettings(netlink: RtNetlink, ifindex: number): LinkSetting[] {
  const setting = (
    name: 'mtu' | 'mac',
    read: (link: Link) => unknown,
    change: (value: unknown) => LinkChange,
    parse: (value: unknown) => unknown,
  ): LinkSetting => ({
    name,
    reason: '',
    read: () => {
      const link = netlink.link(ifindex);
      return link && read(link);
    },
    write(value) {
      try {
        netlink.setLink(ifindex, change(value));
        return 0;
      } catch (error) {
        const { errno = -Errno.EINVAL, detail = '' } = error as TwinpathError;
        this.reason = detail;
        return -errno;
      }
    },
    parse,
  });
  return [
    setting(
      'mtu',
      ({ mtu }) => mtu,
      (mtu) => ({ mtu: mtu as number }),
      (value) => (Number.isInteger(value) && (value as number) >= MIN_MTU ? value : undefined),
    ),
    setting(
      'mac',
      ({ address }) => address,
      (address) => ({ address: address as string }),
      (value) => (typeof value === 'string' ? normalizeMac(value) : undefined),
    ),
  ];
}

const reasonOf = ({ reason }: LinkSetting): string => (reason === '' ? '' : ` (${reason})`);

/** Puts back what a killed port has changed on a device that no port uses. */
export function putBackLink(netlink: RtNetlink, store: SettingsStore, link: Link): void {
  const all = linkSettings(netlink, link.ifindex);
  restoreSaved(store, link, (name) => all.find((setting) => setting.name === name));
}
