/**
 * The desired configuration of a port: what its devices shall have, whichever of them exist. The coordinator keeps it, applies
 * it to each path before packets are let in, and applies it again when a device returns. Checked on the thread that asks for
 * a change; plain data.
 */
import { macBytes, normalizeMac } from './net/mac.ts';
import { largerFrame, maxMtuWhileOpen } from './net/packet-size.ts';
import {
  checkQueues,
  checkRss,
  DEFAULT_RSS,
  type RssChange,
  type RssConfiguration,
} from './rss/configuration.ts';
import { checkRules } from './rules/check.ts';
import type { FlowRule, GivenRules } from './rules/rule.ts';
import { flag, invalid, oneOf, onlyKnown, plainObject } from './validation.ts';

/** A port's configuration, complete. */
export interface PortConfiguration {
  /** Counts the changes; 0 before the first. */
  readonly generation: number;
  /** Bytes of the longest packet without its Ethernet header; null: as the devices have it. */
  readonly mtu: number | null;
  /** 'aa:bb:cc:dd:ee:ff'; null: as the devices have it. */
  readonly mac: string | null;
  /** Unicast addresses that the devices accept beside their own. */
  readonly unicast: readonly string[];
  /** Multicast addresses that they accept beside those of the machine's own stack. */
  readonly multicast: readonly string[];
  /** Whether they accept packets for any address. */
  readonly promiscuous: boolean;
  /** Whether they accept packets for any multicast address. */
  readonly allMulticast: boolean;
  /**
   * Whether the handler gets only what was asked for: packets for the MAC addresses of the port's devices, for broadcast, and
   * for what the four properties above name. The machine's own stack gets the others.
   */
  readonly macFilter: boolean;
  /** Which packets the handler gets, as texts or objects: see rules/rule.ts. */
  readonly rules: readonly (string | FlowRule)[];
  /** What matches no rule stays with the machine's own stack. */
  readonly isolate: boolean;
  /** How flows are spread over the queues. */
  readonly rss: RssConfiguration;
  /** The queues that flows are spread over, in ascending order; null: all. The others are stopped. */
  readonly queues: readonly number[] | null;
  /** What idle workers do; null: as the option `mode` says. A worker of several ports: see `idleModeOf`. */
  readonly mode: IdleMode | null;
  /** Whether packets are let in. If not, all is open and configured, and the traffic is the kernel's, as without a port. */
  readonly started: boolean;
}

/** What a worker does that finds no packets: see the option `mode`. */
export type IdleMode = (typeof IDLE_MODES)[number];
export const IDLE_MODES = ['poll', 'adaptive', 'interrupt'] as const;

/** What `Port.configure` changes; absent properties stay as they are. A list replaces the list before. */
export type ConfigurationChange = Partial<Omit<PortConfiguration, 'generation' | 'rss'>> & {
  /** What changes of it; null: all as at first. */
  readonly rss?: RssChange | null;
};

/** A change that {@link checkChange} has checked. */
export type CheckedChange = Partial<Omit<PortConfiguration, 'generation' | 'rss'>> & {
  readonly rss?: Partial<RssConfiguration>;
};

const UNCONFIGURED: PortConfiguration = {
  generation: 0,
  mtu: null,
  mac: null,
  unicast: [],
  multicast: [],
  promiscuous: false,
  allMulticast: false,
  macFilter: false,
  rules: [],
  isolate: false,
  rss: DEFAULT_RSS,
  queues: null,
  mode: null,
  started: true,
};

const NAMES = [
  'mtu',
  'mac',
  'unicast',
  'multicast',
  'promiscuous',
  'allMulticast',
  'macFilter',
  'rules',
  'isolate',
  'rss',
  'queues',
  'mode',
  'started',
] as const;

/** IPv4 needs no more than that of a link (RFC 791, section 3.2). */
export const MIN_MTU = 68;
/** Drivers filter some tens of addresses and go promiscuous beyond that. */
const MAX_ADDRESSES = 128;

/** @param queues of the port. @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID */
export function checkChange(change: ConfigurationChange, frameSize: number, queues: number): CheckedChange {
  onlyKnown(plainObject('configuration', change), NAMES, `Known are ${NAMES.join(', ')}.`);
  const { mtu, mac, unicast, multicast, promiscuous, allMulticast, macFilter, rules, isolate } = change;
  const { rss, queues: active, mode, started } = change;
  if (rules !== undefined) checkRules('rules', rules, 'handler');
  return {
    ...(mtu === undefined ? {} : { mtu: mtu === null ? null : checkMtu(mtu, frameSize) }),
    ...(mac === undefined ? {} : { mac: mac === null ? null : checkAddress('mac', mac, 'unicast') }),
    ...(unicast === undefined ? {} : { unicast: checkAddresses('unicast', unicast) }),
    ...(multicast === undefined ? {} : { multicast: checkAddresses('multicast', multicast) }),
    ...(promiscuous === undefined ? {} : { promiscuous: flag('promiscuous', promiscuous) }),
    ...(allMulticast === undefined ? {} : { allMulticast: flag('allMulticast', allMulticast) }),
    ...(macFilter === undefined ? {} : { macFilter: flag('macFilter', macFilter) }),
    ...(rules === undefined ? {} : { rules }),
    ...(isolate === undefined ? {} : { isolate: flag('isolate', isolate) }),
    ...(rss === undefined ? {} : { rss: checkRss(rss, queues) }),
    ...(active === undefined ? {} : { queues: active === null ? null : checkQueues(active, queues) }),
    ...(mode === undefined ? {} : { mode: mode === null ? null : oneOf('mode', mode, IDLE_MODES) }),
    ...(started === undefined ? {} : { started: flag('started', started) }),
  };
}

/** The configuration of a port that is opened with this. */
export const initial = (wanted: CheckedChange): PortConfiguration =>
  Object.keys(wanted).length === 0 ? UNCONFIGURED : changed(UNCONFIGURED, wanted);

/** The rules of a configuration; undefined: every packet is for the handler. */
export function rulesOf({ rules, isolate }: PortConfiguration): GivenRules | undefined {
  if (rules.length === 0 && !isolate) return undefined;
  return { rules, otherwise: isolate ? 'kernel' : 'handler' };
}

/** The configuration after a change. */
export function changed(before: PortConfiguration, change: CheckedChange): PortConfiguration {
  const rss = { ...before.rss, ...change.rss };
  return { ...before, ...change, rss, generation: before.generation + 1 };
}

function checkMtu(mtu: unknown, frameSize: number): number {
  const most = maxMtuWhileOpen(frameSize);
  if (Number.isInteger(mtu) && (mtu as number) >= MIN_MTU && (mtu as number) <= most) return mtu as number;
  const range = `it must be a whole number from ${MIN_MTU} to ${most}, the most for frames of ${frameSize} bytes`;
  const larger = Number.isInteger(mtu) && (mtu as number) > most;
  const hint = larger ? largerFrame(mtu as number, frameSize) : undefined;
  return invalid('mtu', `${range}, or null, not ${String(mtu)}`, hint);
}

function checkAddresses(option: 'unicast' | 'multicast', addresses: unknown): string[] {
  if (!Array.isArray(addresses)) return invalid(option, 'it must be a list of MAC addresses');
  const known = new Set(addresses.map((address) => checkAddress(option, address, option)));
  if (known.size > MAX_ADDRESSES)
    invalid(option, `it has ${known.size} addresses; ${MAX_ADDRESSES} is the most`);
  return [...known];
}

function checkAddress(option: string, address: unknown, kind: 'unicast' | 'multicast'): string {
  const mac = typeof address === 'string' ? normalizeMac(address) : undefined;
  if (mac === undefined) return invalid(option, `${String(address)} is not a MAC address`);
  const bytes = macBytes(mac);
  const isGroup = (bytes[0]! & 1) === 1;
  if (isGroup !== (kind === 'multicast'))
    return invalid(option, `${mac} is a ${isGroup ? 'multi' : 'uni'}cast address`);
  return bytes.every((byte) => byte === 0) ? invalid(option, `${mac} is no device's address`) : mac;
}
