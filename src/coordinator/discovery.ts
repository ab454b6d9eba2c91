/**
 * Chooses the device that openPort() takes. kinds.ts has the kinds of devices, inventory.ts the devices of the machine.
 *
 * Pure logic over a {@link Snapshot}; any thread. NB: a snapshot may already be outdated, so the port later follows the
 * events of the link monitor.
 *
 * The most important rule: a device that carries the machine's own traffic is taken only if it is named, because it may be
 * the user's only access to the machine. In doubt a device carries traffic.
 */
import { type ErrorDetails, TwinpathError } from '../errors.ts';
import { ARPHRD_ETHER, type Link } from '../kernel/rtnetlink.ts';
import { normalizeMac } from '../net/mac.ts';
import { nearest } from '../validation.ts';
import { belongs, cards, discover, driverName, NO_HISTORY, pairs, type Snapshot } from './inventory.ts';
import { KINDS, type KindName, kindOf } from './kinds.ts';
import { parentOf } from './netvsc.ts';
import { usageOf } from './usage.ts';

/** How the user named the device; all of it optional. */
export interface Wanted {
  /** Name, alternative name, MAC or PCI address of any Ethernet device: a leg of a pair means the pair, else the card alone. */
  readonly device?: string;
  /** Name, alternative name or MAC, also of the VF. */
  readonly netvsc?: string;
  readonly mac?: string;
  /** Name, alternative name, MAC or PCI address. */
  readonly vf?: string;
  /** Takes a named device although it is not a NetVSC. */
  readonly force?: boolean;
  /** Devices that are not taken, nor the pairs that they belong to: names, alternative names, MAC or PCI addresses. */
  readonly ignore?: readonly string[];
  /** The device is taken only if the machine does not use it, although it is named. */
  readonly unused?: boolean;
}

export interface Choice {
  readonly netvsc: Link;
  /** `undefined` if no VF exists at the moment. */
  readonly vf: Link | undefined;
  readonly kind: KindName;
}

const NOTHING: ReadonlySet<number> = new Set();

/**
 * The one device that matches, or an error that says why none does.
 *
 * @param taken links that ports of this process already use
 * @throws ERR_DEVICE_NOT_FOUND, ERR_DEVICE_NOT_NETVSC, ERR_DEVICE_AMBIGUOUS, ERR_DEVICE_IN_USE,
 *   ERR_DEVICE_BUSY, ERR_NO_NETVSC, ERR_OPTION_INVALID
 */
export function choose(snapshot: Snapshot, wanted: Wanted, taken: ReadonlySet<number> = NOTHING): Choice {
  const choice = chooseNamed(snapshot, wanted, taken) ?? unnamed(snapshot, taken, wanted.ignore);
  const { netvsc, vf, kind } = choice;
  const legs = [vf, KINDS[kind].standby(netvsc, snapshot)];
  const ignored = wanted.ignore?.find((text) => namesOne(snapshot, text, [netvsc, ...legs]));
  if (ignored !== undefined) {
    fail('ERR_OPTION_INVALID', 'ignore', `${ignored} is to be ignored, and a port is to take ${netvsc.name}`);
  }
  const { reason } = usageOf(snapshot, netvsc, legs);
  if (wanted.unused && reason !== '') fail('ERR_DEVICE_IN_USE', netvsc.name, `it ${reason}`);
  return choice;
}

function chooseNamed(snapshot: Snapshot, wanted: Wanted, taken: ReadonlySet<number>): Choice | undefined {
  const mac = wanted.mac === undefined ? undefined : validMac(wanted.mac);
  const name = wanted.netvsc ?? mac;
  if (wanted.device !== undefined) return device(snapshot, wanted.device, taken);
  if (name === undefined && wanted.vf === undefined) return undefined;

  const force = wanted.force === true;
  const vfs = wanted.vf === undefined ? undefined : resolve(snapshot, wanted.vf, 'vf');
  const netvsc =
    name === undefined ? netvscOf(snapshot, vfs!, wanted.vf!, force) : named(snapshot, name, force);
  if (mac !== undefined && !hasMac(netvsc, mac)) {
    fail('ERR_OPTION_INVALID', 'mac', `${netvsc.name} has the address ${netvsc.address}, not ${mac}`);
  }
  refuseTaken(netvsc, taken);
  const kind = kindOf(netvsc, snapshot) ?? KINDS['stand-in'];
  const history = { ours: taken };
  const own = vfs?.filter((vf) => kind.mayBeVf(netvsc, vf, snapshot, history)) ?? [];
  if (vfs && own.length === 0 && !vfs.includes(netvsc)) {
    fail('ERR_OPTION_INVALID', 'vf', `${wanted.vf} is not the VF of ${netvsc.name}`);
  }
  const vf = kind.vf(netvsc, snapshot, history, own.length > 0 ? own : snapshot.links);
  return { netvsc, vf, kind: kind.name };
}

/** The pair that the device belongs to, or else the device alone. */
function device(snapshot: Snapshot, name: string, taken: ReadonlySet<number>): Choice {
  const links = resolve(snapshot, name, 'device');
  const netvsc = pairOf(snapshot, links, name) ?? alone(links, name);
  refuseTaken(netvsc, taken);
  const kind = kindOf(netvsc, snapshot) ?? KINDS.card;
  return { netvsc, vf: kind.vf(netvsc, snapshot, { ours: taken }), kind: kind.name };
}

/** If several devices have one MAC, the card is meant, and not the devices stacked on it. */
function alone(links: readonly Link[], name: string): Link {
  const ethernet = links.filter(({ type }) => type === ARPHRD_ETHER);
  if (ethernet.length === 0) fail('ERR_OPTION_INVALID', 'device', `${name} is no Ethernet device`);
  const hardware = ethernet.filter(({ kind }) => kind === '');
  return only(hardware.length > 0 ? hardware : ethernet, name);
}

function refuseTaken({ ifindex, name }: Link, taken: ReadonlySet<number>): void {
  if (taken.has(ifindex)) fail('ERR_DEVICE_BUSY', name, 'another port of this process uses it');
}

/**
 * Without a host path the machine loses the traffic of the interface: this must not happen by mistake.
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
export function hasDefaultRoute(snapshot: Snapshot, { netvsc, vf, kind }: Choice): boolean {
  const standby = KINDS[kind].standby(netvsc, snapshot);
  return usageOf(snapshot, netvsc, [vf, standby]).defaultRoute;
}

/** A pair, and why a port without a name does not take it; '' if it does. */
interface Looked extends Choice {
  readonly refusal: string;
}

function lookAt(snapshot: Snapshot, taken: ReadonlySet<number>, ignore: readonly string[]): Looked[] {
  return discover(snapshot).map(({ netvsc, vf, standby, kind, reason }) => {
    const isIgnored = ignore.some((text) => namesOne(snapshot, text, [netvsc, vf, standby]));
    const own = taken.has(netvsc.ifindex) ? OWN : isIgnored ? 'is to be ignored' : reason;
    return { netvsc, vf, kind, refusal: own };
  });
}

const OWN = 'is used by another port of this process';

/** Every pair that the machine does not use, by ifindex. @throws ERR_DEVICE_IN_USE, ERR_DEVICE_BUSY, ERR_NO_NETVSC: there is none */
export function freePairs(snapshot: Snapshot, ignore: readonly string[] = []): Choice[] {
  return freeAmong(snapshot, lookAt(snapshot, NOTHING, ignore));
}

function unnamed(snapshot: Snapshot, taken: ReadonlySet<number>, ignore: readonly string[] = []): Choice {
  const free = freeAmong(snapshot, lookAt(snapshot, taken, ignore));
  if (free.length === 1) return free[0]!;
  return fail(
    'ERR_DEVICE_AMBIGUOUS',
    free.map(({ netvsc }) => netvsc.name).join(', '),
    undefined,
    "Name one of them with netvsc (--netvsc NAME), or open all with openPorts({ ports: 'all' }) (--all).",
  );
}

/** Those that are not refused. @throws an error that says what was looked at and why nothing is taken */
function freeAmong(snapshot: Snapshot, looked: readonly Looked[]): Choice[] {
  const free = looked.filter(({ refusal }) => refusal === '');
  if (free.length > 0) return free.map(({ netvsc, vf, kind }) => ({ netvsc, vf, kind }));
  if (looked.length > 0 && looked.every(({ refusal }) => refusal === OWN)) {
    fail('ERR_DEVICE_BUSY', undefined, 'ports of this process use every NetVSC already');
  }
  const detail = looked.map(({ netvsc, refusal }) => `${netvsc.name} ${refusal}`).join('; ');
  if (looked.length > 0) {
    const hint = 'To take it nevertheless, name it with netvsc (--netvsc NAME).';
    fail('ERR_DEVICE_IN_USE', undefined, detail, hint);
  }
  const others = cards(snapshot).map(({ netvsc, reason }) => `${netvsc.name} ${reason}`);
  return fail(
    'ERR_NO_NETVSC',
    undefined,
    others.length === 0 ? undefined : others.join('; '),
    'Name a card with device (--device NAME): "twinpath list" shows all of them.',
  );
}

/** Whether the text is the name, alternative name, MAC or PCI address of one of these links. */
function namesOne(snapshot: Snapshot, text: string, links: readonly (Link | undefined)[]): boolean {
  return links.some((link) => link !== undefined && isCalled(link, text, snapshot.sysfs));
}

function isCalled(link: Link, text: string, sysfs: Snapshot['sysfs']): boolean {
  if (link.name === text || link.altNames.includes(text)) return true;
  const mac = normalizeMac(text);
  if (mac !== undefined) return hasMac(link, mac);
  const parent = parentOf(link, sysfs);
  return parent?.bus === 'pci' && parent.device === text.toLowerCase();
}

/** The device that the user named as the NetVSC: a NetVSC, the NetVSC of a leg, or with `force` any Ethernet device. */
function named(snapshot: Snapshot, name: string, force: boolean): Link {
  const links = resolve(snapshot, name, 'netvsc');
  const netvsc = pairOf(snapshot, links, name);
  if (netvsc !== undefined) return netvsc;
  if (!force) refuse(name, snapshot, links);
  const ethernet = links.filter(({ type }) => type === ARPHRD_ETHER);
  if (ethernet.length === 0) fail('ERR_DEVICE_NOT_NETVSC', name, 'it is no Ethernet device');
  // If several devices have one MAC, the master of the others is meant.
  const upper = ethernet.filter(({ master }) => !ethernet.some(({ ifindex }) => ifindex === master));
  return only(upper, name);
}

/** The NetVSC that one of these VFs belongs to. */
function netvscOf(snapshot: Snapshot, vfs: readonly Link[], name: string, force: boolean): Link {
  const netvsc = pairOf(snapshot, vfs, name); // also by a MAC whose VF does not exist at the moment
  if (netvsc !== undefined) return netvsc;
  if (!force) refuse(name, snapshot, vfs);
  const standIns = snapshot.links.filter(
    (link) =>
      link.type === ARPHRD_ETHER &&
      vfs.some((vf) => KINDS['stand-in'].mayBeVf(link, vf, snapshot, NO_HISTORY)),
  );
  if (standIns.length === 0) fail('ERR_DEVICE_NOT_NETVSC', name, 'no device has it as its VF');
  return only(standIns, name);
}

/** All links with that name, alternative name, MAC or (for a VF) PCI address. @throws ERR_DEVICE_NOT_FOUND */
function resolve(snapshot: Snapshot, text: string, option: 'netvsc' | 'vf' | 'device'): Link[] {
  const { links, sysfs } = snapshot;
  const mac = normalizeMac(text);
  const found = links.filter((link) =>
    option === 'netvsc' && mac === undefined
      ? link.name === text || link.altNames.includes(text)
      : isCalled(link, text, sysfs),
  );
  if (found.length > 0) return found;
  const near = nearest(mac ?? text, suggestions(snapshot, mac === undefined ? 'names' : 'addresses'));
  const hint = [
    near === undefined ? undefined : `The nearest is ${near}.`,
    option === 'vf'
      ? 'Without the option "vf" the port finds the VF by itself, whenever it appears.'
      : undefined,
  ].filter((sentence) => sentence !== undefined);
  return fail('ERR_DEVICE_NOT_FOUND', text, undefined, hint.join(' ') || undefined);
}

/** Names to suggest: no loopback, no tap, and no device that has the machine's default route. */
function suggestions(snapshot: Snapshot, what: 'names' | 'addresses'): string[] {
  return snapshot.links
    .filter(({ type, kind }) => type === ARPHRD_ETHER && kind !== 'tun')
    .filter((link) => !usageOf(snapshot, link, []).defaultRoute)
    .flatMap(({ name, altNames, address }) => (what === 'names' ? [name, ...altNames] : [address]));
}

/** The device with the addresses of the pair that one of the links belongs to. */
function pairOf(snapshot: Snapshot, links: readonly Link[], name: string): Link | undefined {
  const all = pairs(snapshot);
  const itself = all.filter(({ netvsc }) => links.includes(netvsc));
  const found =
    itself.length > 0 ? itself : all.filter((one) => links.some((link) => belongs(snapshot, one, link)));
  return found.length === 0
    ? undefined
    : only(
        found.map(({ netvsc }) => netvsc),
        name,
      );
}

function refuse(name: string, { sysfs }: Snapshot, links: readonly Link[]): never {
  const kind = links[0]!.kind || driverName(links[0]!, sysfs);
  return fail(
    'ERR_DEVICE_NOT_NETVSC',
    name,
    kind === '' ? undefined : `it is a ${kind} device`,
    `Use it alone with device (--device ${name}), or set force (--force) to have it stand in for a NetVSC.`,
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
    fail('ERR_OPTION_INVALID', 'mac', `"${text}" is not a MAC address`, 'Write it as 00:0d:3a:12:34:56.')
  );
}

function fail(code: TwinpathError['code'], device?: string, detail?: string, hint?: string): never {
  const details: ErrorDetails = { device, detail, hint };
  throw new TwinpathError(code, details);
}
