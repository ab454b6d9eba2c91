/**
 * What the NetVSC merges before the kernel sees it: off while a port is open.
 *
 * hv_netvsc makes one linear packet of up to 64 KiB of the segments that the host has merged (RSC), wherever its LRO is on,
 * which it is by default since Server 2019. Such a packet fits no frame and no device's MTU. The kernel's own GRO is no
 * harm: what it merges says how it is to be cut, and the kernel cuts it on its way to the tap.
 *
 * A device that has no such feature, or has it off for good, is left alone. The originals are kept and put back as those
 * of a VF are, see kernel/device-settings.ts. Coordinator only.
 */
import { errnoName, TwinpathError } from '../../errors.ts';
import { DeviceSettings, describeDrift, type HeldSettings } from '../../kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import type { Link } from '../../kernel/link.ts';
import type { SettingsStore } from '../../kernel/settings-store.ts';
import { MERGING, mergingSetting, putBackMerging } from '../af-xdp/settings.ts';

export interface MergingOptions {
  readonly ethtool: EthtoolNetlink;
  readonly store: SettingsStore;
  /** Hears what the port lives with, and a person should know. */
  readonly report: (error: TwinpathError) => void;
}

export class Merging {
  readonly #link: Link;
  readonly #options: MergingOptions;
  readonly #names: readonly string[];
  readonly #settings: DeviceSettings;

  constructor(link: Link, options: MergingOptions, names: readonly string[] = MERGING) {
    this.#link = link;
    this.#options = options;
    this.#names = names;
    this.#settings = new DeviceSettings(options.store.netvsc, link, (detail) =>
      this.#report(
        `its settings cannot be saved (${detail}): if this process is killed, they stay as the port has them`,
      ),
    );
  }

  get held(): HeldSettings {
    return this.#settings.held;
  }

  adopt(held: HeldSettings): void {
    this.#settings.adopt(held, [mergingSetting(this.#options.ethtool, this.#link.ifindex, this.#names)]);
  }

  /**
   * Switches it off. What cannot be is told, and why: the port cuts what comes merged. Never throws.
   *
   * @returns whether merged packets are to be expected all the same
   */
  stop(): boolean {
    let goesOn = true; // unless it is known that it does not
    this.#told(() => {
      goesOn = this.#stop();
    });
    return goesOn;
  }

  #stop(): boolean {
    const { ethtool, store } = this.#options;
    const { ifindex } = this.#link;
    putBackMerging(ethtool, store, this.#link, this.#names); // of a port that was killed: what it found is the original
    const setting = mergingSetting(ethtool, ifindex, this.#names);
    const wanted = Object.keys(setting.read() ?? {});
    const result = this.#settings.set(setting, Object.fromEntries(wanted.map((name) => [name, false])));
    const active = ethtool.features(ifindex)?.active;
    const left = this.#names.filter((name) => active?.has(name));
    if (left.length === 0) return false; // or the device has gone meanwhile
    const why = result < 0 ? ` (${errnoName(result)})` : '';
    this.#report(
      `it does not let ${left.join(', ')} be switched off${why}: the port cuts the packets it merges`,
    );
    return true;
  }

  /** Somebody has changed settings of the device: they are set again, and told. Never throws. */
  settle(): void {
    this.#told(() => {
      for (const drift of this.#settings.reapply()) this.#report(describeDrift(drift));
    });
  }

  /** Puts back what was found. Never throws; may be called again. */
  restore(): void {
    this.#settings.restore();
  }

  /** The path does without: a kernel without ethtool netlink has taps all the same. */
  #told(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof TwinpathError)) throw error;
      this.#options.report(error);
    }
  }

  #report(detail: string): void {
    this.#options.report(new TwinpathError('ERR_DEVICE_SETTINGS', { device: this.#link.name, detail }));
  }
}
