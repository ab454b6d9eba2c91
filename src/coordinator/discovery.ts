/**
 * Which NetVSC a port is to take: all of them for `twinpath list`, one of them for openPort().
 *
 * Pure logic over a {@link Snapshot}; any thread. A snapshot is stale when it arrives, so whoever acts
 * on a choice looks again under the monitor's events.
 *
 * The rule that matters most: what carries the machine's own traffic is never taken unless it is named,
 * for it may well be the user's only way in. Doubt counts as traffic.
 */
import { type ErrorDetails, TwinpathError } from '../errors.ts';
import {
  ARPHRD_ETHER,
  type InterfaceAddress,
  type Link,
  normalizeMac,
  type RtNetlink,
} from '../kernel/rtnetlink.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { nearest } from '../options.ts';
import { isNetvsc, parentOf } from './netvsc.ts';
import { occupation } from './occupation.ts';
import { findVf, isVfOf, type PairingRules } from './pairing.ts';

export interface Snapshot {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  /** ifindexes that carry a default route. */
  readonly defaultRoutes: readonly number[];
  readonly sysfs: Sysfs;
}

/** How the user named the device; all of it optional. */
export interface Wanted {
  /** Name, alternative name or MAC; the VF's will do. */
  readonly netvsc?: string;
  readonly mac?: string;
  /** Name, alternative name, MAC or PCI address. */
  readonly vf?: string;
  /** Takes a named device although it is no NetVSC. */
  readonly force?: boolean;
}

export interface Choice {
  readonly netvsc: Link;
  /** `undefined` when the VF is away, or there never was one. */
  readonly vf: Link | undefined;
  /** The device is no NetVSC and was taken because the user insisted. */
  readonly forced: boolean;
}

export interface Found {
  readonly netvsc: Link;
  readonly vf: Link | undefined;
  /** '' when unknown. */
  readonly driver: string;
  readonly vfDriver: string;
  /** Receive queues that the driver allotted, in use or not; 0 without a VF. */
  readonly queues: number;
  readonly vfQueues: number;
  /** Without IPv6 link-local ones; of the NetVSC, its VF and what stands on them. */
  readonly addresses: string[];
  readonly defaultRoute: boolean;
  /** openPort() without a name would consider it. */
  readonly free: boolean;
  /** Why not; '' when free. */
  readonly reason: string;
}

const NOTHING: ReadonlySet<number> = new Set();

export function takeSnapshot(rtnetlink: RtNetlink, sysfs: Sysfs): Snapshot {
  return {
    links: rtnetlink.links(),
    addresses: rtnetlink.addresses(),
    defaultRoutes: rtnetlink.defaultRoutes(),
    sysfs,
  };
}

/** Every NetVSC of the machine, by ifindex. */
export function discover(snapshot: Snapshot): Found[] {
  const { links, sysfs } = snapshot;
  return netvscs(snapshot).map((netvsc) => {
    const vf = findVf(netvsc, links, { forced: false, sysfs, ours: NOTHING });
    const { addresses, defaultRoute, reason } = occupation(snapshot, netvsc, vf);
    return {
      netvsc,
      vf,
      driver: driverName(netvsc, sysfs),
      vfDriver: vf ? driverName(vf, sysfs) : '',
      queues: netvsc.numRxQueues,
      vfQueues: vf?.numRxQueues ?? 0,
      addresses,
      defaultRoute,
      free: reason === '',
      reason,
    };
  });
}

/**
 * The one device that fits, or an error that says what stands in the way.
 *
 * @param taken links that ports of this process have already
 * @throws ERR_DEVICE_NOT_FOUND, ERR_DEVICE_NOT_NETVSC, ERR_DEVICE_AMBIGUOUS, ERR_DEVICE_IN_USE,
 *   ERR_DEVICE_BUSY, ERR_NO_NETVSC, ERR_OPTION_INVALID
 */
export function choose(snapshot: Snapshot, wanted: Wanted, taken: ReadonlySet<number> = NOTHING): Choice {
  const mac = wanted.mac === undefined ? undefined : validMac(wanted.mac);
  const name = wanted.netvsc ?? mac;
  if (name === undefined && wanted.vf === undefined) return unnamed(snapshot, taken);

  const force = wanted.force === true;
  const vfs = wanted.vf === undefined ? undefined : resolve(snapshot, wanted.vf, 'vf');
  const netvsc =
    name === undefined ? netvscOf(snapshot, vfs!, wanted.vf!, force) : named(snapshot, name, force);
  if (mac !== undefined && !hasMac(netvsc, mac)) {
    fail('ERR_OPTION_INVALID', 'mac', `${netvsc.name} has the address ${netvsc.address}, not ${mac}`);
  }
  if (taken.has(netvsc.ifindex)) fail('ERR_DEVICE_BUSY', netvsc.name, 'another port of this process has it');
  const forced = !isNetvsc(netvsc, snapshot.sysfs);
  const rules: PairingRules = { forced, sysfs: snapshot.sysfs, ours: taken };
  const own = vfs?.filter((vf) => isVfOf(netvsc, vf, rules)) ?? [];
  if (vfs && own.length === 0 && !vfs.includes(netvsc)) {
    fail('ERR_OPTION_INVALID', 'vf', `${wanted.vf} is not the VF of ${netvsc.name}`);
  }
  return { netvsc, vf: findVf(netvsc, own.length > 0 ? own : snapshot.links, rules), forced };
}

/**
 * Without a host path the machine loses what comes and goes by the interface: not by mistake.
 *
 * @throws ERR_DEVICE_IN_USE if the default route leads through the NetVSC
 */
export function refuseToCut(snapshot: Snapshot, choice: Choice): void {
  if (!hasDefaultRoute(snapshot, choice)) return;
  fail(
    'ERR_DEVICE_IN_USE',
    choice.netvsc.name,
    "it carries the default route, and with host 'off' the machine's own stack would be cut off",
    "Leave host at 'ingress', or set cutHost (--cut-host).",
  );
}

/** Whether the default route leads through the NetVSC, or its VF. */
export function hasDefaultRoute(snapshot: Snapshot, { netvsc, vf }: Choice): boolean {
  return occupation(snapshot, netvsc, vf).defaultRoute;
}

function unnamed(snapshot: Snapshot, taken: ReadonlySet<number>): Choice {
  const found = discover(snapshot).filter(({ netvsc }) => !taken.has(netvsc.ifindex));
  const free = found.filter((one) => one.free);
  if (free.length === 1) return { netvsc: free[0]!.netvsc, vf: free[0]!.vf, forced: false };
  if (free.length > 1) {
    const names = free.map(({ netvsc }) => netvsc.name).join(', ');
    fail('ERR_DEVICE_AMBIGUOUS', names, undefined, 'Name one of them with netvsc (--netvsc NAME).');
  }
  if (found.length > 0) {
    const detail = found.map(({ netvsc, reason }) => `${netvsc.name} ${reason}`).join('; ');
    fail(
      'ERR_DEVICE_IN_USE',
      undefined,
      detail,
      'Name it with netvsc (--netvsc NAME) to take it all the same.',
    );
  }
  if (taken.size > 0 && netvscs(snapshot).length > 0) {
    fail('ERR_DEVICE_BUSY', undefined, 'ports of this process have every NetVSC already');
  }
  return fail(
    'ERR_NO_NETVSC',
    undefined,
    undefined,
    'Name a device and set force (--netvsc NAME --force) to use another kind.',
  );
}

/** What the user called the NetVSC: itself, or its VF, or with force any Ethernet device. */
function named(snapshot: Snapshot, name: string, force: boolean): Link {
  const { sysfs } = snapshot;
  const links = resolve(snapshot, name, 'netvsc');
  const real = links.filter((link) => isNetvsc(link, sysfs));
  if (real.length > 0) return only(real, name);
  const masters = netvscs(snapshot).filter((netvsc) =>
    links.some((link) => isVfOf(netvsc, link, { forced: false, sysfs, ours: NOTHING })),
  );
  if (masters.length > 0) return only(masters, name);
  if (!force) refuse(name, snapshot, links);
  const ethernet = links.filter(({ type }) => type === ARPHRD_ETHER);
  if (ethernet.length === 0) fail('ERR_DEVICE_NOT_NETVSC', name, 'it is no Ethernet device');
  // One MAC, several devices: the one that the others have joined is meant.
  const upper = ethernet.filter(({ master }) => !ethernet.some(({ ifindex }) => ifindex === master));
  return only(upper, name);
}

/** The NetVSC that one of these VFs belongs to. */
function netvscOf(snapshot: Snapshot, vfs: readonly Link[], name: string, force: boolean): Link {
  const { links, sysfs } = snapshot;
  const real = vfs.filter((link) => isNetvsc(link, sysfs));
  if (real.length > 0) return only(real, name); // a MAC whose VF is away just now
  const pairedWith = (candidates: readonly Link[], forced: boolean): Link[] =>
    candidates.filter((netvsc) => vfs.some((vf) => isVfOf(netvsc, vf, { forced, sysfs, ours: NOTHING })));
  const masters = pairedWith(netvscs(snapshot), false);
  if (masters.length > 0) return only(masters, name);
  if (!force) refuse(name, snapshot, vfs);
  const standIns = pairedWith(
    links.filter(({ type }) => type === ARPHRD_ETHER),
    true,
  );
  if (standIns.length === 0) fail('ERR_DEVICE_NOT_NETVSC', name, 'no device has it as its VF');
  return only(standIns, name);
}

/** Every link of that name, alternative name, MAC or (for a VF) PCI address; never none. */
function resolve(snapshot: Snapshot, text: string, option: 'netvsc' | 'vf'): Link[] {
  const { links, sysfs } = snapshot;
  const mac = normalizeMac(text);
  const found = links.filter((link) => {
    if (link.name === text || link.altNames.includes(text)) return true;
    if (mac !== undefined) return hasMac(link, mac);
    if (option !== 'vf') return false;
    const parent = parentOf(link, sysfs);
    return parent?.bus === 'pci' && parent.device === text.toLowerCase();
  });
  if (found.length > 0) return found;
  const near = nearest(mac ?? text, suggestions(snapshot, mac === undefined ? 'names' : 'addresses'));
  const hint = [
    near === undefined ? undefined : `The nearest is ${near}.`,
    option === 'vf' ? 'Without the option "vf" the VF is found by itself, whenever it comes.' : undefined,
  ].filter((sentence) => sentence !== undefined);
  return fail('ERR_DEVICE_NOT_FOUND', text, undefined, hint.join(' ') || undefined);
}

/** What a person may have meant: no loopback, no tap, and nothing that the machine's default route leads through. */
function suggestions(snapshot: Snapshot, what: 'names' | 'addresses'): string[] {
  return snapshot.links
    .filter(({ type, kind }) => type === ARPHRD_ETHER && kind !== 'tun')
    .filter((link) => !occupation(snapshot, link, undefined).defaultRoute)
    .flatMap(({ name, altNames, address }) => (what === 'names' ? [name, ...altNames] : [address]));
}

function netvscs({ links, sysfs }: Snapshot): Link[] {
  return links.filter((link) => isNetvsc(link, sysfs)).sort((a, b) => a.ifindex - b.ifindex);
}

function refuse(name: string, { sysfs }: Snapshot, links: readonly Link[]): never {
  const kind = links[0]!.kind || driverName(links[0]!, sysfs);
  return fail(
    'ERR_DEVICE_NOT_NETVSC',
    name,
    kind === '' ? undefined : `it is a ${kind} device`,
    'Set force (--force) to use it all the same.',
  );
}

function only(links: readonly Link[], name: string): Link {
  if (links.length > 1) {
    const names = links.map((link) => link.name).join(', ');
    fail('ERR_DEVICE_AMBIGUOUS', name, `that is ${names}`, 'Give the name of one of them.');
  }
  return links[0]!;
}

function hasMac(link: Link, mac: string): boolean {
  return link.address === mac || link.permanentAddress === mac;
}

function validMac(text: string): string {
  return (
    normalizeMac(text) ??
    fail('ERR_OPTION_INVALID', 'mac', `"${text}" is no MAC address`, 'Write it as 00:0d:3a:12:34:56.')
  );
}

function driverName(link: Link, sysfs: Sysfs): string {
  const parent = parentOf(link, sysfs);
  return (parent && (sysfs.driverOf(parent) ?? sysfs.driver(link.name))) ?? '';
}

function fail(code: TwinpathError['code'], device?: string, detail?: string, hint?: string): never {
  const details: ErrorDetails = { device, detail, hint };
  throw new TwinpathError(code, details);
}
