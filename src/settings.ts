/**
 * Settings: the options of ports, checked and complete. Everything is checked here, once; all other code relies on it.
 */
import { availableParallelism } from 'node:os';
import { type CheckedChange, checkChange, IDLE_MODES, type IdleMode } from './configuration.ts';
import { handlersOf, type PortHandlers } from './handler-settings.ts';
import { type Geometry, layOut } from './memory/geometry.ts';
import { METADATA, type MetadataName } from './memory/metadata.ts';
import { Memory } from './memory/shared.ts';
import { FRAME_SIZES } from './net/packet-size.ts';
import {
  DEFAULTS,
  type ForwardTarget,
  type HostMode,
  type OpenPortOptions,
  type OpenPortsOptions,
  type PcapNetwork,
  PORT_KEYS,
  type PortOptions,
  type ProtectMode,
  type RelayRoute,
  type RssMode,
  SHARED_KEYS,
} from './options.ts';
import { type ReplaySettings, replaySettings } from './replay-settings.ts';
import { keyOf } from './rss/key.ts';
import { flag, invalid, nonEmptyText, oneOf, onlyKnown, wholeNumber } from './validation.ts';

/** The options of one port, checked. */
export type PortSettings = Omit<PortOptions, 'configuration'> & { readonly configuration?: CheckedChange };

/** Options as the port's threads take them: complete, checked, cloneable. */
export interface Settings extends PortHandlers {
  readonly ports: readonly PortSettings[];
  readonly queues: number;
  readonly mode: IdleMode;
  readonly frameSize: number;
  readonly frames: number;
  readonly pin: boolean;
  readonly netns: string | undefined;
  readonly ignore: readonly string[];
  /** Whether the ports were found and not named: see `onFreePairs`. */
  readonly unused: boolean;
  readonly tap: 'io_uring' | 'read/write';
  readonly redirect: 'tcx' | 'clsact';
  readonly redirectOrder: 'first' | 'last';
  readonly xdp: 'native' | 'any';
  readonly host: HostMode;
  readonly cutHost: boolean;
  /** undefined: 'platform' for a NetVSC that has the default route. */
  readonly protect: ProtectMode | undefined;
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
  readonly metadata: readonly MetadataName[];
  readonly forwardTo: readonly RelayRoute[];
  readonly stuckMillis: number;
  readonly loadMillis: number;
  readonly network: 'kernel' | 'memory' | 'loop';
  /** The file that plays the network of ports in memory. */
  readonly replay: ReplaySettings | undefined;
  /** Whether there is a control socket; 'default': if the user has a folder for it. */
  readonly control: boolean | 'default';
  /** URL of the metadata service that announces maintenance; undefined: none. */
  readonly maintenance: string | undefined;
}

/** Ports that can be opened together: a frame's owner has four bits for them. */
export const MAX_PORTS = 16;

const FRAMES = [4096, 8192, 16384, 32768, 65536] as const;

/** Frames of a worker: many times as many as the rings of all its paths hold. */
const MAX_FRAMES = 65536;

/** Offsets into the shared memory are positive 32-bit integers. */
const MAX_BYTES = 2 ** 31;

/** Entries of a ring: how many descriptors the kernel may be ahead or behind, a few ms of traffic. */
const RING_ENTRIES = 2048;

/**
 * @param unused whether the ports were found and not named
 * @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function validate(options: OpenPortsOptions, unused = false): Settings {
  checkNames(options, [...SHARED_KEYS, 'ports', 'each']);
  if (options.each !== undefined) invalid('each', "it goes with ports: 'all'");
  const { ports, netns, protect, signal } = options;
  const queues = wholeNumber('queues', options.queues ?? Math.min(availableParallelism(), 8), 1, 64);
  const given = <Name extends keyof typeof DEFAULTS>(name: Name) => options[name] ?? DEFAULTS[name];
  if (!Array.isArray(ports) || ports.length < 1 || ports.length > MAX_PORTS) {
    return invalid('ports', `it must be a list of 1 to ${MAX_PORTS} ports`);
  }
  const frameSize = oneOf('frameSize', given('frameSize'), FRAME_SIZES);
  const frames = oneOf('frames', given('frames'), FRAMES);
  if (frames * ports.length > MAX_FRAMES) {
    invalid('frames', `${ports.length} ports of ${frames} frames a queue: together at most ${MAX_FRAMES}`);
  }
  if (netns !== undefined) nonEmptyText('netns', netns);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    invalid('signal', 'it must be an AbortSignal');
  const checked = ports.map((port) => checkPort(port, frameSize, queues));
  const ignore = checkIgnored(options.ignore);
  refuseTwice(checked, ignore);
  return {
    ports: checked,
    ...handlersOf(options, ports),
    queues,
    mode: oneOf('mode', given('mode'), IDLE_MODES),
    frameSize,
    frames,
    pin: flag('pin', given('pin')),
    netns,
    ignore,
    unused,
    tap: oneOf('tap', given('tap'), ['io_uring', 'read/write']),
    redirect: oneOf('redirect', given('redirect'), ['tcx', 'clsact']),
    redirectOrder: oneOf('redirectOrder', given('redirectOrder'), ['first', 'last']),
    xdp: oneOf('xdp', given('xdp'), ['native', 'any']),
    host: oneOf('host', given('host'), ['ingress', 'inline', 'off']),
    cutHost: flag('cutHost', given('cutHost')),
    protect: protect === undefined ? undefined : oneOf('protect', protect, ['platform', 'none']),
    rss: oneOf('rss', given('rss'), ['auto', 'software', 'device']),
    rssKey: keyOf(given('rssKey')),
    metadata: metadataNames(given('metadata')),
    forwardTo: routes(given('forwardTo')),
    stuckMillis: wholeNumber('stuckMillis', given('stuckMillis'), 100, 60_000),
    loadMillis: wholeNumber('loadMillis', given('loadMillis'), 100, 600_000),
    ...networkOf(given('network')),
    control:
      options.control === undefined
        ? given('network') === 'kernel' && 'default'
        : flag('control', options.control),
    maintenance: metadataServiceOf(options.maintenance),
  };
}

/** Azure's, which has this address in every virtual network. */
const AZURE = 'http://169.254.169.254';

function metadataServiceOf(given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  if (given === 'azure') return AZURE;
  const base = typeof given === 'string' && given.startsWith('azure=') ? given.slice('azure='.length) : '';
  if (base.startsWith('http://') && URL.canParse(base)) return base.replace(/\/+$/, '');
  return invalid(
    'maintenance',
    `${given} is not known`,
    "Write 'azure', or 'azure=http://ADDRESS' for a stand-in.",
  );
}

/** `openPort`'s options as `openPorts` takes them. */
export function single(options: OpenPortOptions): OpenPortsOptions {
  checkNames(options, [...PORT_KEYS, ...SHARED_KEYS]);
  const { device, netvsc, mac, vf, force, configuration, ...shared } = options;
  return { ...shared, ports: [{ device, netvsc, mac, vf, force, configuration }] };
}

/**
 * The shape of the memory that these ports share.
 *
 * @throws ERR_OPTION_INVALID if it would be too large: frames are most of it, and rings between queues the rest
 */
export function geometryOf(
  { ports, queues, frameSize, frames }: Pick<Settings, 'ports' | 'queues' | 'frameSize' | 'frames'>,
  pageSize: number,
): Geometry {
  const geometry = {
    pageSize,
    ports: ports.length,
    queues,
    frameSize,
    framesPerWorker: frames * ports.length,
    ringEntries: RING_ENTRIES,
  };
  const { bytes } = layOut(geometry);
  if (bytes < MAX_BYTES) return geometry;
  const mayLower = frames > FRAMES[0];
  const need = `${queues} queues of ${ports.length} ports with ${frames} frames of ${frameSize} bytes`;
  return invalid(
    mayLower ? 'frames' : 'queues',
    `${need} need ${(bytes / 2 ** 30).toFixed(1)} GiB; 2 GiB is the most`,
    mayLower ? 'Ask for fewer frames, or fewer queues.' : 'Ask for fewer queues.',
  );
}

function checkNames(options: object, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null) invalid('options', 'they must be an object');
  onlyKnown(options, names, `Known are ${names.join(', ')}.`);
}

function checkPort(port: PortOptions, frameSize: number, queues: number): PortSettings {
  checkNames(port, [...PORT_KEYS, 'handler', 'handlerOptions']);
  const { device, netvsc, mac, vf, force } = port;
  const configuration =
    port.configuration === undefined ? undefined : checkChange(port.configuration, frameSize, queues);
  for (const [name, value] of Object.entries({ device, netvsc, mac, vf })) {
    if (value !== undefined && !(name === 'vf' && value === false)) nonEmptyText(name, value);
  }
  if (force !== undefined) flag('force', force);
  const checked = { device, netvsc, mac, vf, force, configuration };
  if (device === undefined) return checked;
  // `device` is enough: whether it is a pair depends on which devices exist.
  const others = Object.entries({ netvsc, mac, vf }).filter(([, value]) => value !== undefined);
  const [other] = others.map(([name]) => name).concat(force === true ? 'force' : []);
  if (other !== undefined)
    invalid('device', `it cannot be combined with "${other}": it takes the device's pair, or the card alone`);
  return checked;
}

function networkOf(network: unknown): Pick<Settings, 'network' | 'replay'> {
  if (typeof network === 'object' && network !== null)
    return { network: 'memory', replay: replaySettings(network as PcapNetwork) };
  return { network: oneOf('network', network, ['kernel', 'memory', 'loop']), replay: undefined };
}

function metadataNames(names: readonly MetadataName[]): MetadataName[] {
  if (!Array.isArray(names)) invalid('metadata', `it must be a list of ${METADATA.join(', ')}`);
  return names.map((name) => oneOf('metadata', name, METADATA));
}

function checkIgnored(ignore: unknown = []): string[] {
  if (!Array.isArray(ignore)) return invalid('ignore', 'it must be a list of names, MAC or PCI addresses');
  for (const [at, name] of ignore.entries()) {
    nonEmptyText('ignore', name);
    if (ignore.indexOf(name) < at) invalid('ignore', `${name} is there twice`);
  }
  return ignore;
}

/** One device by two names is found later. */
function refuseTwice(ports: readonly PortOptions[], ignore: readonly string[]): void {
  const first = new Map<string, number>();
  for (const [number, { device, netvsc, mac, vf }] of ports.entries()) {
    for (const name of new Set([device, netvsc, mac, vf || undefined])) {
      if (name === undefined) continue;
      if (ignore.includes(name)) invalid('ignore', `${name} is to be ignored, and a port is to take it`);
      const before = first.get(name);
      if (before !== undefined) invalid(`ports[${number}]`, `it names ${name}, as ports[${before}] does`);
      first.set(name, number);
    }
  }
}

function routes(targets: readonly ForwardTarget[]): RelayRoute[] {
  if (!Array.isArray(targets)) invalid('forwardTo', 'it must be a list of ports');
  const numbers = new Map<unknown, number>();
  return targets.map((target) => {
    const { shared, port } = target?.route ?? {};
    const buffer = shared?.memory?.buffer;
    if (!(buffer instanceof SharedArrayBuffer))
      return invalid('forwardTo', 'it must be a list of open ports');
    const { words, control } = Memory.attach(shared);
    if (control.stopping) return invalid('forwardTo', 'one of its ports is closed');
    // One number for each memory, also if other threads of the process take theirs at the same time.
    const from = numbers.get(buffer) ?? Atomics.add(words, control.at('forwarders'), 1) + 1;
    numbers.set(buffer, from);
    return { shared, port, from };
  });
}
