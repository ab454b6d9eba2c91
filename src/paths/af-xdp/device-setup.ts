/**
 * What a port needs of a device's own settings: as many channels as it has queues, no features that alter packets before
 * XDP sees them, and its own RSS. `restore` puts the originals back; after a kill the next start does. Coordinator only.
 */
import type { PortConfiguration } from '../../configuration.ts';
import { errnoName, TwinpathError } from '../../errors.ts';
import { DeviceSettings, describeDrift, type HeldSettings, notSaved } from '../../kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import { IFF, type Link } from '../../kernel/link.ts';
import type { SettingsStore } from '../../kernel/settings-store.ts';
import type { Memory } from '../../memory/shared.ts';
import type { RssMode } from '../../options.ts';
import { hashBits } from '../../rss/configuration.ts';
import { keyFrom } from '../../rss/key.ts';
import { tableFrom } from '../../rss/redirection.ts';
import type { PathDescription } from '../device.ts';
import {
  channelSetting,
  featureSetting,
  putBackSettings,
  settingsOf,
  UNWANTED_BY_GENERIC,
  UNWANTED_FEATURES,
} from './settings.ts';
import { spreadDevice, unspreadDevice, type Wanted } from './spread.ts';

export interface SetupOptions {
  /** 'auto' asks the device to hash and spread packets as the port does; 'device' insists on it once that is configured. */
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
  readonly ethtool: EthtoolNetlink;
  readonly store: SettingsStore;
  /** Gets errors that the path works around. */
  readonly report?: (error: TwinpathError) => void;
}

export class DeviceSetup {
  /** As of the kernel's last message. */
  link: Link;
  /** Receive queues of the device in use: at most as many as the port has. */
  rxQueues = 0;
  readonly #memory: Memory;
  readonly #options: SetupOptions;
  readonly #settings: DeviceSettings;
  readonly #description: PathDescription;
  readonly #changed: () => void;
  #agrees = false;

  /**
   * @param description filled in with what becomes of VLAN tags, and who spreads flows
   * @param changed called after each change of the holdings
   */
  constructor(
    memory: Memory,
    link: Link,
    options: SetupOptions,
    description: PathDescription,
    changed: () => void,
  ) {
    this.link = link;
    this.#memory = memory;
    this.#options = options;
    this.#settings = new DeviceSettings(options.store, link, (why) => this.#report(notSaved(why)));
    this.#description = description;
    this.#changed = changed;
  }

  get held(): HeldSettings {
    return this.#settings.held;
  }

  /** Continues what another coordinator has set. */
  adopt(held: HeldSettings, rxQueues: number): void {
    this.#settings.adopt(held, settingsOf(this.#options.ethtool, this.link.ifindex));
    this.rxQueues = rxQueues;
  }

  /** @throws ERR_OPTION_INVALID if the device keeps a number of channels that the port cannot work with */
  open(): void {
    this.#setChannels();
    this.#switchOff('features', UNWANTED_FEATURES);
  }

  /**
   * Has the device spread flows as the port does. With `auto` it may refuse: then workers do it. With `device` nothing else
   * would, and a device that refuses is as it was found.
   *
   * @returns the refusal
   */
  spread(configuration: PortConfiguration): TwinpathError | undefined {
    const { ethtool, rss } = this.#options;
    const { ifindex, name } = this.link;
    const { queues } = this.#memory.layout.geometry;
    const own = rss === 'device' && isUnasked(configuration);
    if (rss === 'software' || own) {
      this.#agrees = false;
      if (own) unspreadDevice(ethtool, ifindex, this.#settings);
      return undefined;
    }
    const reason = spreadDevice(ethtool, ifindex, this.#wanted(configuration), this.#settings);
    this.#agrees = reason === undefined && this.rxQueues === queues;
    if (rss === 'auto') {
      if (queues > 1) this.#description.rss = this.#agrees ? 'device' : 'software';
      return undefined;
    }
    if (reason === undefined) return undefined;
    unspreadDevice(ethtool, ifindex, this.#settings);
    return new TwinpathError('ERR_DEVICE_SETTINGS', {
      device: name,
      detail: reason,
      hint: "Open the port with rss: 'auto' (--rss auto): its workers then do what the device cannot.",
    });
  }

  /** Whether the device delivers packets to active queues only, as read back from it. */
  get agrees(): boolean {
    return this.#agrees;
  }

  #wanted({ rss, queues: active }: PortConfiguration): Wanted {
    const { queues } = this.#memory.layout.geometry;
    return {
      key: keyFrom(rss.key, this.#options.rssKey),
      table: tableFrom({ table: rss.table, active, queues, serves: () => true }),
      hashTypes: hashBits(rss.hashTypes),
      queues: this.rxQueues,
      isUp: (this.link.flags & IFF.UP) !== 0,
    };
  }

  /** What the generic hook needs in addition. */
  prepareGeneric(): void {
    this.#switchOff('generic features', UNWANTED_BY_GENERIC);
  }

  /**
   * After another program, or the driver when it set the device up, has changed settings: sets those of the path again, and
   * reports the change. If the device refuses, the path goes on: packets on queues without a socket are dropped or passed,
   * see program.ts.
   *
   * @throws ERR_DEVICE_SETTINGS if the path must be reopened: a veth does not run the program on queues that it gets later
   *   (drivers/net/veth.c, veth_set_channels)
   */
  settle(): void {
    for (const drift of this.#settings.reapply()) {
      const { name, result, reapplied } = drift;
      const detail = describeDrift(drift);
      if (!reapplied && result < 0 && name === 'channels' && this.link.kind === 'veth') {
        throw new TwinpathError('ERR_DEVICE_SETTINGS', { device: this.link.name, detail });
      }
      if (!drift.wasReset || !reapplied) this.#report(detail);
    }
    this.describeTags();
  }

  /** Puts back what was found. Never throws; may be called again. */
  restore(): void {
    this.#settings.restore();
  }

  /** Describes whether a VLAN tag stays in the packet. AF_XDP has no other place for it. */
  describeTags(): void {
    const before = this.#description.vlanTags;
    const active = this.#options.ethtool.features(this.link.ifindex)?.active ?? new Set();
    const taken = UNWANTED_FEATURES.filter((name) => name.startsWith('rx-vlan') && active.has(name));
    const parses = taken.some((name) => name.endsWith('hw-parse'));
    // On a veth the other end decides: if it was given the tag outside the packet, the tag stays outside.
    const otherwise = this.link.kind === 'veth' ? 'as the other end sends them' : 'kept';
    this.#description.vlanTags = parses ? 'lost' : otherwise;
    if (taken.length === 0 || before !== undefined) return;
    const loss = parses
      ? 'VLAN tags are lost by this VF'
      : 'frames of VLANs that the kernel does not know are dropped by this VF';
    this.#report(`${loss}: its driver does not let ${taken.join(', ')} be switched off`);
  }

  #setChannels(): void {
    const { name, ifindex, numRxQueues } = this.link;
    const { ethtool, store, rss } = this.#options;
    // Settings that a killed port left are put back first: the originals to keep are those from before it.
    putBackSettings(ethtool, store, this.link);
    const have = ethtool.channels(ifindex);
    const found = have === undefined ? numRxQueues : have.combined + have.rx;
    const { combined, rx, tx } = have ?? { combined: 0, rx: found, tx: found };
    const { queues } = this.#memory.layout.geometry;
    const agreed = found === queues;
    const wanted =
      (have?.maxCombined ?? 0) > 0
        ? { combined: queues, rx: 0, tx: 0 }
        : { combined: 0, rx: queues, tx: queues };
    // A number that is right already is set too, so that a change of it is noticed.
    const setting = channelSetting(ethtool, ifindex);
    const result = this.#settings.set(setting, agreed ? { combined, rx, tx } : wanted);
    this.rxQueues = result >= 0 ? queues : found;
    this.#changed();
    // With fewer channels than the port has queues, workers hand packets over in both directions.
    if (!agreed && result < 0 && (found > queues || rss === 'device')) {
      throw new TwinpathError('ERR_OPTION_INVALID', {
        device: name,
        detail: `it receives on ${found} queues, the port has ${queues}, and it refuses to change`,
        hint: `Open the port with queues: ${found}. If its RSS table was set by hand: "ethtool -X ${name} default".`,
      });
    }
  }

  /** Some drivers keep features on: {@link describeTags} reports the consequence. */
  #switchOff(kind: string, names: readonly string[]): void {
    const setting = featureSetting(this.#options.ethtool, this.link.ifindex, kind, names);
    const now = setting.read();
    if (now === undefined) return;
    const off = Object.fromEntries(Object.keys(now).map((name) => [name, false]));
    const result = this.#settings.set(setting, off);
    // If the device is gone, its DELLINK is under way: that is no refusal.
    if (result < 0 && setting.read() !== undefined) {
      this.#report(`it refuses to switch ${Object.keys(off).join(', ')} off (${errnoName(result)})`);
    }
  }

  #report(detail: string): void {
    this.#options.report?.(new TwinpathError('ERR_DEVICE_SETTINGS', { device: this.link.name, detail }));
  }
}

const isUnasked = ({ rss, queues }: PortConfiguration): boolean =>
  queues === null && rss.key === null && rss.table === null && rss.hashTypes === null;
