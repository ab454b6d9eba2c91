/**
 * Makes a device spread packets over its queues exactly as the port's own hash and table do, if it can.
 *
 * Each packet belongs to one queue of the port, on either path. A device that agrees delivers it there; with any other
 * device, workers hand packets over. A device may take settings and not follow them, so everything is read back.
 *
 * Coordinator only. Call it when the device has the port's number of queues. Its settings must be put back before that
 * number is: the kernel refuses fewer channels than a table names.
 *
 * A device does not report how it hashes fragments and IPv6 extension headers. One that agrees may still deliver those to
 * other queues.
 */
import { errnoName } from '../../errors.ts';
import type { DeviceSettings } from '../../kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import {
  ADDRESSES,
  ADDRESSES_AND_PORTS,
  Flow,
  type FlowType,
  HASH_TOEPLITZ,
  hashFields,
  NO_FIELDS,
  type Rss,
  rssOf,
} from '../../kernel/ethtool-rss.ts';
import { RETA_ENTRIES } from '../../memory/geometry.ts';
import { HashBit } from '../../rss/configuration.ts';
import { KEY_BYTES } from '../../rss/key.ts';
import { fieldsSetting, originalRss, type RssValue, rssSetting, rssValue } from './settings.ts';

export interface Wanted {
  /** At least 40 bytes. */
  readonly key: Uint8Array;
  /** The port's redirection table: 128 queue numbers below `queues`. */
  readonly table: Uint8Array;
  /** Bits of `HashBit`. */
  readonly hashTypes: number;
  /** Receive queues of the device. */
  readonly queues: number;
  /** Whether the device is up, or was: some drivers have no table before that. */
  readonly isUp: boolean;
}

/** The flow types of each version of IP: their names, what hashes their ports, and what their addresses. */
const FLOWS: readonly {
  readonly flow: FlowType;
  readonly name: string;
  readonly ports: number;
  readonly ip: number;
}[] = [
  { flow: Flow.TCP4, name: 'TCP over IPv4', ports: HashBit.TCP4, ip: HashBit.IPV4 },
  { flow: Flow.UDP4, name: 'UDP over IPv4', ports: HashBit.UDP4, ip: HashBit.IPV4 },
  { flow: Flow.TCP6, name: 'TCP over IPv6', ports: HashBit.TCP6, ip: HashBit.IPV6 },
  { flow: Flow.UDP6, name: 'UDP over IPv6', ports: HashBit.UDP6, ip: HashBit.IPV6 },
  // Drivers hash the addresses of other packets and do not say so. They are asked only to leave it.
  { flow: Flow.IP4, name: 'other IPv4', ports: 0, ip: HashBit.IPV4 },
  { flow: Flow.IP6, name: 'other IPv6', ports: 0, ip: HashBit.IPV6 },
];

/**
 * Changes the device through `settings`, which put it back. A device that refuses is left as it was. A device with a
 * smaller table than the port's is set too: it agrees for some packets, each of which then needs no hand-over.
 *
 * @returns undefined if the device now delivers every packet with hashed ports to the queue that the port's table names;
 *   else why not
 * @throws ERR_KERNEL if a request cannot be sent
 */
export function spreadDevice(
  ethtool: EthtoolNetlink,
  ifindex: number,
  wanted: Wanted,
  settings: DeviceSettings,
): string | undefined {
  if (wanted.queues === 1) return undefined;
  const before = rssOf(ethtool, ifindex);
  if (before === undefined || before.table.length === 0) return 'it has no RSS table that can be set';

  const want = agrees(before, wanted) ? rssValue(before) : changeFor(before, wanted);
  const original = (value: RssValue): RssValue => originalRss(value, wanted.queues, wanted.isUp);
  const result = settings.set(rssSetting(ethtool, ifindex), want, original);
  if (result < 0) return `it refuses the RSS key or table (${errnoName(result)})`;
  const refused = FLOWS.map((flow) => hashFlow(ethtool, ifindex, wanted.hashTypes, flow, settings));
  const after = rssOf(ethtool, ifindex);
  if (after === undefined) return 'it is gone';
  if (!agrees(after, wanted)) return disagreement(after, wanted);
  return refused.find((reason) => reason !== undefined);
}

/** Puts back what {@link spreadDevice} has changed. */
export function unspreadDevice(ethtool: EthtoolNetlink, ifindex: number, settings: DeviceSettings): void {
  for (const { flow } of FLOWS) settings.undo(fieldsSetting(ethtool, ifindex, flow).name);
  settings.undo(rssSetting(ethtool, ifindex).name);
}

/** Sets the hashed fields of one flow type. @returns why the device has others */
function hashFlow(
  ethtool: EthtoolNetlink,
  ifindex: number,
  types: number,
  { flow, name, ports, ip }: (typeof FLOWS)[number],
  settings: DeviceSettings,
): string | undefined {
  const setting = fieldsSetting(ethtool, ifindex, flow);
  const addresses = (types & ip) === 0 ? NO_FIELDS : ADDRESSES;
  if (ports === 0 && addresses === ADDRESSES) {
    settings.undo(setting.name);
    return undefined;
  }
  const fields = (types & ports) === 0 ? addresses : ADDRESSES_AND_PORTS;
  const result = settings.set(setting, fields);
  const now = hashFields(ethtool, ifindex, flow);
  if (now === fields) return undefined;
  if (now === undefined) return `it does not report what it hashes of ${name}`;
  if (fields === NO_FIELDS) return `it hashes ${name} although it should not${because(result)}`;
  const what = fields === ADDRESSES ? 'only the addresses' : 'addresses and ports';
  return `it does not hash ${what} of ${name}${because(result)}`;
}

const because = (result: number): string => (result < 0 ? ` (${errnoName(result)})` : '');

function disagreement({ key, table, hashFunction, inputTransform }: Rss, wanted: Wanted): string {
  if (hashFunction !== HASH_TOEPLITZ || inputTransform !== 0) return 'it keeps another hash function';
  if (wanted.key.slice(0, KEY_BYTES).some((byte, i) => byte !== key[i])) return 'it keeps another RSS key';
  return `its RSS table of ${table.length} entries does not hold the port's of ${RETA_ENTRIES}`;
}

/** Whether the device computes the port's hash for every input, and selects the port's queue for every hash. */
export function agrees({ key, table, hashFunction, inputTransform }: Rss, wanted: Wanted): boolean {
  if (hashFunction !== HASH_TOEPLITZ || inputTransform !== 0) return false;
  for (let i = 0; i < KEY_BYTES; i++) if (key[i] !== wanted.key[i]) return false;

  const period = periodOf(table.length);
  return (
    wanted.table.every((queue, entry) => queue === wanted.table[entry & (period - 1)]) &&
    table.every((queue, entry) => queue === wanted.table[entry & (period - 1)])
  );
}

/**
 * The largest power of two, up to the port's table size, that divides the device's table size. An entry depends on the hash
 * modulo this number in the same way whether the device masks the hash or takes a remainder.
 */
function periodOf(size: number): number {
  return Math.min(RETA_ENTRIES, size & -size);
}

function changeFor({ key, table }: Rss, wanted: Wanted): RssValue {
  return rssValue({
    // Key bytes beyond the port's key are for inputs that the port does not hash.
    key: key.map((own, i) => wanted.key[i] ?? own),
    table: table.map((_, entry) => wanted.table[entry % RETA_ENTRIES]!),
    hashFunction: HASH_TOEPLITZ,
    inputTransform: 0,
  });
}
