/** The settings of a device that a port changes: channels, features and RSS, each as a `Setting`. Coordinator only. */
import { restoreSaved, type Setting } from '../../kernel/device-settings.ts';
import type { ChannelCounts, EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import {
  Flow,
  type FlowType,
  hashFields,
  type Rss,
  rssOf,
  setHashFields,
  setRss,
} from '../../kernel/ethtool-rss.ts';
import type { Link } from '../../kernel/link.ts';
import type { SettingsStore } from '../../kernel/settings-store.ts';

/** Features that alter or drop packets before XDP sees them: off while a port is open. */
export const UNWANTED_FEATURES = [
  'rx-vlan-hw-parse', // moves the tag out of the packet, where AF_XDP does not see it
  'rx-vlan-stag-hw-parse',
  'rx-vlan-filter', // drops VLANs that the kernel has no device for
  'rx-vlan-stag-filter',
  'rx-lro', // merges packets; drivers refuse XDP with it
  'rx-gro-hw',
];

/** The generic hook runs after the kernel's own merging, and a merged packet does not fit a frame. */
export const UNWANTED_BY_GENERIC = ['rx-gro'];

/** More channels than any device has: a damaged file. */
const MAX_CHANNELS = 4096;

type FeatureFlags = Readonly<Record<string, boolean>>;

/** RSS as JSON. The table 'default' is the kernel's own, which follows the number of channels. */
export interface RssValue {
  readonly key: string;
  readonly table: readonly number[] | 'default';
  readonly hashFunction: number;
  readonly inputTransform: number;
}

export function channelSetting(ethtool: EthtoolNetlink, ifindex: number): Setting<ChannelCounts> {
  return {
    name: 'channels',
    read: () => {
      const now = ethtool.channels(ifindex);
      return now && { combined: now.combined, rx: now.rx, tx: now.tx };
    },
    write: (counts) => ethtool.setChannels(ifindex, counts),
    parse: (value) => {
      const { combined, rx, tx } = (value ?? {}) as Record<string, unknown>;
      return isCount(combined) && isCount(rx) && isCount(tx) ? { combined, rx, tx } : undefined;
    },
  };
}

/** Those of the named features that can be changed. */
export function featureSetting(
  ethtool: EthtoolNetlink,
  ifindex: number,
  name: string,
  names: readonly string[],
): Setting<FeatureFlags> {
  return {
    name,
    read: () => {
      const now = ethtool.features(ifindex);
      if (now === undefined) return undefined;
      const changeable = names.filter((feature) => now.changeable.has(feature));
      return Object.fromEntries(changeable.map((feature) => [feature, now.wanted.has(feature)]));
    },
    write: (flags) => ethtool.setFeatures(ifindex, new Map(Object.entries(flags))),
    parse: (value) => {
      const flags = Object.entries((value ?? {}) as Record<string, unknown>);
      const known = flags.every(([feature, on]) => names.includes(feature) && typeof on === 'boolean');
      return known ? (Object.fromEntries(flags) as FeatureFlags) : undefined;
    },
  };
}

export function rssSetting(ethtool: EthtoolNetlink, ifindex: number): Setting<RssValue> {
  return {
    name: 'rss',
    read: () => {
      const rss = rssOf(ethtool, ifindex);
      return rss === undefined || rss.table.length === 0 ? undefined : rssValue(rss);
    },
    write: ({ key, table, hashFunction, inputTransform }) => {
      const now = rssOf(ethtool, ifindex)?.hashFunction;
      return setRss(ethtool, ifindex, {
        key: Uint8Array.from(Buffer.from(key, 'hex')),
        table,
        // Named only if it changes: some drivers refuse the field altogether.
        hashFunction: hashFunction === now ? undefined : hashFunction,
        inputTransform,
      });
    },
    parse: (value) => {
      const { key, table, hashFunction, inputTransform } = (value ?? {}) as Record<string, unknown>;
      const entries = Array.isArray(table) && table.every(isCount) ? (table as number[]) : undefined;
      const spread = table === 'default' ? table : entries;
      if (typeof key !== 'string' || !/^([0-9a-f]{2})*$/.test(key) || spread === undefined) return undefined;
      if (!isByte(hashFunction) || !isByte(inputTransform)) return undefined;
      return { key, table: spread, hashFunction, inputTransform };
    },
    isDefault: ({ table }) => {
      const queues = table === 'default' ? 0 : Math.max(...table) + 1;
      return queues > 1 && isDriversOwn(table, queues);
    },
  };
}

export function rssValue({ key, table, hashFunction, inputTransform }: Rss): RssValue {
  return { key: Buffer.from(key).toString('hex'), table, hashFunction, inputTransform };
}

export function fieldsSetting(ethtool: EthtoolNetlink, ifindex: number, flow: FlowType): Setting<number> {
  return {
    name: `fields ${flow}`,
    read: () => hashFields(ethtool, ifindex, flow),
    write: (fields) => setHashFields(ethtool, ifindex, flow, fields),
    parse: (value) => (typeof value === 'number' && value >= 0 && value <= 0xffffffff ? value : undefined),
  };
}

/**
 * A table that no administrator has set is put back as 'default'. Written out, it would count as the administrator's, and
 * the kernel would refuse fewer channels from then on.
 *
 * @param isUp igb fills its table when it is set up for the first time: until then it reads 0 throughout
 */
export function originalRss(value: RssValue, queues: number, isUp: boolean): RssValue {
  const { table } = value;
  const unmade = !isUp && table !== 'default' && table.every((queue) => queue === 0);
  return unmade || isDriversOwn(table, queues) ? { ...value, table: 'default' } : value;
}

/** Whether the table looks like the kernel's default, or a driver's: igb_write_rss_indir_tbl fills it in blocks. */
function isDriversOwn(table: RssValue['table'], queues: number): boolean {
  if (table === 'default') return false;
  return (
    table.every((queue, entry) => queue === entry % queues) ||
    table.every((queue, entry) => queue === Math.floor((entry * queues) / table.length))
  );
}

/** Features with which the NetVSC merges packets before the kernel sees them: see paths/tap/merging.ts. */
export const MERGING = ['rx-lro', 'rx-gro-hw'];

export const mergingSetting = (
  ethtool: EthtoolNetlink,
  ifindex: number,
  names: readonly string[] = MERGING,
) => featureSetting(ethtool, ifindex, 'merging', names);

/** Every kind of setting that a port changes on a VF. */
export function settingsOf(ethtool: EthtoolNetlink, ifindex: number): Setting<unknown>[] {
  return [
    channelSetting(ethtool, ifindex),
    featureSetting(ethtool, ifindex, 'features', UNWANTED_FEATURES),
    featureSetting(ethtool, ifindex, 'generic features', UNWANTED_BY_GENERIC),
    rssSetting(ethtool, ifindex),
    ...Object.values(Flow).map((flow) => fieldsSetting(ethtool, ifindex, flow)),
  ] as Setting<unknown>[];
}

/** Puts back what a killed port has changed on a device that no port uses. Returns the names of the settings. */
export function putBackSettings(ethtool: EthtoolNetlink, store: SettingsStore, link: Link): string[] {
  const all = settingsOf(ethtool, link.ifindex);
  return restoreSaved(store, link, (name) => all.find((setting) => setting.name === name));
}

/** The same for a NetVSC. */
export function putBackMerging(
  ethtool: EthtoolNetlink,
  store: SettingsStore,
  link: Link,
  names?: readonly string[],
): string[] {
  const setting = mergingSetting(ethtool, link.ifindex, names) as Setting<unknown>;
  return restoreSaved(store.for('netvsc'), link, (name) => (name === setting.name ? setting : undefined));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_CHANNELS;
}

function isByte(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255;
}
