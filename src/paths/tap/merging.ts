/**
 * Switches off the NetVSC's own merging of packets while a port is open.
 *
 * With LRO on, which is the default since Server 2019, hv_netvsc makes one linear packet of up to 64 KiB from the segments
 * that the host has merged (RSC). Such a packet fits no frame and no device's MTU. The kernel's own GRO does no harm: its
 * merged packets record their segment size, and the kernel cuts them on the way to the tap.
 *
 * A device without the feature is left alone. The originals are put back as for a VF: see kernel/device-settings.ts.
 * Coordinator only.
 */
import { errnoName, TwinpathError } from '../../errors.ts';
import { DeviceSettings, describeDrift, type HeldSettings, notSaved } from '../../kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import type { Link } from '../../kernel/link.ts';
import type { SettingsStore } from '../../kernel/settings-store.ts';
import { MERGING, mergingSetting, putBackMerging } from '../af-xdp/settings.ts';

export interface MergingOptions {
  readonly ethtool: EthtoolNetlink;
  readonly store: SettingsStore;
  /** Gets errors that the port works around. */
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
    this.#settings = new DeviceSettings(options.store.for('netvsc'), link, (why) =>
      this.#report(notSaved(why)),
    );
  }

  get held(): HeldSettings {
    return this.#settings.held;
  }

  adopt(held: HeldSettings): void {
    this.#settings.adopt(held, [mergingSetting(this.#options.ethtool, this.#link.ifindex, this.#names)]);
  }

  /**
   * Switches it off. If that fails, the reason is reported, and the port cuts merged packets. Never throws.
   *
   * @returns whether merged packets may still arrive
   */
  stop(): boolean {
    let stillMerges = true; // until the device says otherwise
    this.#reporting(() => {
      stillMerges = this.#stop();
    });
    return stillMerges;
  }

  #stop(): boolean {
    const { ethtool, store } = this.#options;
    const { ifindex } = this.#link;
    // Settings that a killed port left are put back first: the originals to keep are those from before it.
    putBackMerging(ethtool, store, this.#link, this.#names);
    const setting = mergingSetting(ethtool, ifindex, this.#names);
    const wanted = Object.keys(setting.read() ?? {});
    const result = this.#settings.set(setting, Object.fromEntries(wanted.map((name) => [name, false])));
    const active = ethtool.features(ifindex)?.active;
    const left = this.#names.filter((name) => active?.has(name));
    if (left.length === 0) return false; // off, or the device is gone
    const why = result < 0 ? ` (${errnoName(result)})` : '';
    this.#report(
      `it does not let ${left.join(', ')} be switched off${why}: the port cuts the packets it merges`,
    );
    return true;
  }

  /** After another program has changed the settings: sets them again, and reports it. Never throws. */
  settle(): void {
    this.#reporting(() => {
      for (const drift of this.#settings.reapply()) this.#report(describeDrift(drift));
    });
  }

  /** Puts back what was found. Never throws; may be called again. */
  restore(): void {
    this.#settings.restore();
  }

  /** Reports what `work` throws. The path goes on: taps work without ethtool netlink. */
  #reporting(work: () => void): void {
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
