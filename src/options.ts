/**
 * What an application may ask for, validated once, at the door. Unknown options are errors that name the
 * nearest known one; the rest of the code may rely on what it gets.
 */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { TwinpathError } from './errors.ts';
import { type Geometry, layOut, type SharedMemory } from './memory/geometry.ts';
import { Memory } from './memory/shared.ts';
import { keyOf } from './rss/key.ts';

/** One port. Give none of `device`, `netvsc`, `mac` and `vf` to take the one pair that carries no address. */
export interface PortOptions {
  /**
   * Any Ethernet device by name, MAC or PCI address. If it is a NetVSC or net_failover device, or belongs to one, that
   * pair is taken; else it alone: AF_XDP on the card itself, with a tap redirected to and from it for PASS, and to fall back on.
   */
  device?: string;
  /** The NetVSC: interface name or MAC address. */
  netvsc?: string;
  /** The NetVSC by MAC address; together with `netvsc` both must fit. */
  mac?: string;
  /** The VF, by name, MAC or PCI address: stands for its NetVSC. */
  vf?: string;
  /** Take the named device although it is no NetVSC. Default false. */
  force?: boolean;
}

/**
 * What a handler's PASS does, and what becomes of the packets that the machine's own stack sends:
 *
 * - `ingress`: PASS gives a packet to the stack as if the NetVSC had received it; what the stack sends leaves
 *   by the NetVSC as ever.
 * - `inline`: the same, and what the stack sends comes to the handler, with `burst.path[i]` 3.
 * - `off`: the stack gets nothing; PASS drops.
 */
export type HostMode = 'ingress' | 'inline' | 'off';

/**
 * Who spreads flows over queues:
 *
 * - `auto`: the device, where it can be set to agree with the port's key and table; workers hash all the
 *   same, and hand over what came to another queue than its own.
 * - `software`: workers alone; the devices' settings are left as they are.
 * - `device`: the devices alone, as they are set; no hash is computed and nothing handed over.
 */
export type RssMode = 'auto' | 'software' | 'device';

/**
 * What of the traffic stays with the machine's own stack, and no handler sees, by either path and in both directions:
 *
 * - `platform`: what a machine on Azure must not lose: packets from or to 168.63.129.16 (probes, agent, DNS) and
 *   169.254.169.254 (metadata), DHCP, DHCPv6, and ARP replies.
 * - `none`: nothing.
 *
 * BPF programs see to it: the packets never come up. So it needs no host path, and holds with `host: 'off'` too. A VF that
 * has not joined its NetVSC receives them itself, as it would without a port.
 */
export type ProtectMode = 'platform' | 'none';

/** A port of other memories, as `forwardTo` names it: what a {@link Port} is to this file. */
export interface ForwardTarget {
  /** Where copies for it go. */
  readonly route: RelayRoute;
}

/** Where copies for a port of another memory go. Cloneable. */
export interface RelayRoute {
  readonly shared: SharedMemory;
  /** Its number there. */
  readonly port: number;
  /** Who forwards: a number that no other memory of the process has. */
  readonly from: number;
}

/** What the ports opened together share. */
export interface SharedOptions {
  /** The handler module, JavaScript or WebAssembly: a URL, a `file:` string or an absolute path. */
  handler: string | URL;
  /** Passed to the module's `create`; structured-cloneable. */
  handlerOptions?: Record<string, unknown>;
  /** Queues, and worker threads, of each port: 1 to 64. Default: one per CPU, 8 at most. */
  queues?: number;
  /**
   * What workers do when idle. Default 'adaptive'. 'interrupt' takes the least CPU time; from some 250,000 packets a second
   * on it has them wait for up to 0.25 ms, as network cards do.
   */
  mode?: 'poll' | 'adaptive' | 'interrupt';
  /** Bytes of a packet frame, 2048 or 4096. Default 2048, which serves an MTU up to 1769. */
  frameSize?: number;
  /** Frames of each queue of each port: 4096 to 65536 by powers of two. Default 8192. */
  frames?: number;
  /** Pin worker i to CPU i (modulo the number of CPUs). Default false. */
  pin?: boolean;
  /** Network namespace of the devices: a name below /run/netns or a path. Default: the process's. */
  netns?: string;
  /** How the tap is driven: io_uring where the kernel allows it, or plain reads and writes. */
  tap?: 'io_uring' | 'read/write';
  /** How the tap is redirected to and from the NetVSC: tcx links where the kernel has them, or tc filters. */
  redirect?: 'tcx' | 'clsact';
  /**
   * Where the port's tcx programs at the NetVSC come: before those that others have there, or behind. Others see nothing
   * of what comes by the VF; first, they see as little of the rest. Default 'first'. Filters have a priority of their own.
   */
  redirectOrder?: 'first' | 'last';
  /**
   * Which XDP hook of a VF will do: its driver's alone, or else the kernel's generic one, which makes a socket buffer of
   * each packet first. Where the driver refuses, 'native' leaves the VF out and says why. Default 'any'.
   */
  xdp?: 'native' | 'any';
  /** The machine's own stack. Default 'ingress'. */
  host?: HostMode;
  /** With host 'off': take even an interface that has the default route, and so cut the machine off. */
  cutHost?: boolean;
  /**
   * Packets that go round the handler. Default: 'platform' for a NetVSC that has the default route when the port is
   * opened, unless `host` is 'off'; else 'none'.
   */
  protect?: ProtectMode;
  /** Who spreads flows over the queues. Default 'auto'. */
  rss?: RssMode;
  /** Key of the Toeplitz hash: 'default', 'symmetric', 40 bytes or their hexadecimal digits. */
  rssKey?: string | Uint8Array;
  /** Ports opened earlier, apart from these, to which handlers may forward: numbered behind one's own. */
  forwardTo?: readonly ForwardTarget[];
  /** A handler that has not returned after so many milliseconds has its worker replaced, 100 to 60000. Default 2000. */
  stuckMillis?: number;
  /**
   * A handler's module that has not been imported, and its `create` that has not returned, after so many milliseconds
   * counts as failed, 100 to 600000. Default 30000.
   */
  loadMillis?: number;
  /**
   * 'kernel', or no device at all: 'memory', whose network is a thread of this process, or 'loop', where each path
   * hands back what it is sent.
   */
  network?: 'kernel' | 'memory' | 'loop';
  /** Closes the ports when it aborts. */
  signal?: AbortSignal;
}

/** Options of `openPort`. */
export type OpenPortOptions = PortOptions & SharedOptions;
/** Options of `openPorts`. */
export type OpenPortsOptions = SharedOptions & {
  /** The ports, 1 to 16; their numbers are their positions here. */
  ports: PortOptions[];
};

/** Options as the coordinator takes them: complete, checked, cloneable. */
export interface Settings {
  readonly ports: readonly PortOptions[];
  readonly handler: string;
  readonly handlerOptions: Record<string, unknown>;
  readonly queues: number;
  readonly mode: 'poll' | 'adaptive' | 'interrupt';
  readonly frameSize: number;
  readonly frames: number;
  readonly pin: boolean;
  readonly netns: string | undefined;
  readonly tap: 'io_uring' | 'read/write';
  readonly redirect: 'tcx' | 'clsact';
  readonly redirectOrder: 'first' | 'last';
  readonly xdp: 'native' | 'any';
  readonly host: HostMode;
  readonly cutHost: boolean;
  /** undefined: 'platform' where the default route is. */
  readonly protect: ProtectMode | undefined;
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
  readonly forwardTo: readonly RelayRoute[];
  readonly stuckMillis: number;
  readonly loadMillis: number;
  readonly network: 'kernel' | 'memory' | 'loop';
}

/** Ports that can be opened together: a frame's owner has four bits for them. */
const MAX_PORTS = 16;

const MIN_FRAMES = 4096;

/** Frames of a worker: many times what the rings of all its paths hold. */
const MAX_FRAMES = 65536;

/** Offsets into the shared memory are positive 32-bit integers. */
const MAX_BYTES = 2 ** 31;

/** Entries of the rings: descriptors the kernel may be ahead or behind of us, a few ms of traffic. */
const RING_ENTRIES = 2048;

const PORT_KEYS = ['device', 'netvsc', 'mac', 'vf', 'force'] as const;
const NAMES = ['device', 'netvsc', 'mac', 'vf'] as const;
const SHARED_KEYS = [
  'handler',
  'handlerOptions',
  'queues',
  'mode',
  'frameSize',
  'frames',
  'pin',
  'netns',
  'tap',
  'redirect',
  'redirectOrder',
  'xdp',
  'host',
  'cutHost',
  'protect',
  'rss',
  'rssKey',
  'forwardTo',
  'stuckMillis',
  'loadMillis',
  'network',
  'signal',
] as const;

/** @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID */
export function validate(options: OpenPortsOptions): Settings {
  known(options, [...SHARED_KEYS, 'ports']);
  const { ports } = options;
  if (!Array.isArray(ports) || ports.length < 1 || ports.length > MAX_PORTS) {
    invalid('ports', `it must be a list of 1 to ${MAX_PORTS} ports`);
  }
  for (const port of ports) {
    known(port, PORT_KEYS);
    for (const key of NAMES) text(key, port[key]);
    if (port.device !== undefined) refuseBesideDevice(port);
    if (port.force !== undefined && typeof port.force !== 'boolean')
      invalid('force', 'it must be true or false');
  }
  const queues = whole('queues', options.queues ?? Math.min(availableParallelism(), 8), 1, 64);
  const frameSize = among('frameSize', options.frameSize ?? 2048, [2048, 4096]);
  const frames = among('frames', options.frames ?? 8192, [MIN_FRAMES, 8192, 16384, 32768, 65536]);
  if (frames * ports.length > MAX_FRAMES) {
    invalid('frames', `${ports.length} ports of ${frames} frames a queue: together at most ${MAX_FRAMES}`);
  }
  text('netns', options.netns);
  const signal = options.signal;
  if (signal !== undefined && !(signal instanceof AbortSignal))
    invalid('signal', 'it must be an AbortSignal');
  return {
    ports: ports.map(({ device, netvsc, mac, vf, force }) => ({ device, netvsc, mac, vf, force })),
    handler: handlerUrl(options.handler),
    handlerOptions: cloneable('handlerOptions', plainObject('handlerOptions', options.handlerOptions ?? {})),
    queues,
    mode: oneOf('mode', options.mode ?? 'adaptive', ['poll', 'adaptive', 'interrupt']),
    frameSize,
    frames,
    pin: flag('pin', options.pin ?? false),
    netns: options.netns,
    tap: oneOf('tap', options.tap ?? 'io_uring', ['io_uring', 'read/write']),
    redirect: oneOf('redirect', options.redirect ?? 'tcx', ['tcx', 'clsact']),
    redirectOrder: oneOf('redirectOrder', options.redirectOrder ?? 'first', ['first', 'last']),
    xdp: oneOf('xdp', options.xdp ?? 'any', ['native', 'any']),
    host: oneOf('host', options.host ?? 'ingress', ['ingress', 'inline', 'off']),
    cutHost: flag('cutHost', options.cutHost ?? false),
    protect:
      options.protect === undefined ? undefined : oneOf('protect', options.protect, ['platform', 'none']),
    rss: oneOf('rss', options.rss ?? 'auto', ['auto', 'software', 'device']),
    rssKey: keyOf(options.rssKey),
    forwardTo: routes(options.forwardTo ?? []),
    stuckMillis: whole('stuckMillis', options.stuckMillis ?? 2000, 100, 60_000),
    loadMillis: whole('loadMillis', options.loadMillis ?? 30_000, 100, 600_000),
    network: oneOf('network', options.network ?? 'kernel', ['kernel', 'memory', 'loop']),
  };
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
  const framesPerWorker = frames * ports.length;
  const geometry = {
    pageSize,
    ports: ports.length,
    queues,
    frameSize,
    framesPerWorker,
    ringEntries: RING_ENTRIES,
  };
  const { bytes } = layOut(geometry);
  if (bytes < MAX_BYTES) return geometry;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: frames > MIN_FRAMES ? 'frames' : 'queues',
    detail: `${queues} queues of ${ports.length} ports with ${frames} frames of ${frameSize} bytes need ${(bytes / 2 ** 30).toFixed(1)} GiB; 2 GiB is the most`,
    hint: frames > MIN_FRAMES ? 'Ask for fewer frames, or fewer queues.' : 'Ask for fewer queues.',
  });
}

/** `openPort`'s options as `openPorts` takes them. */
export function single(options: OpenPortOptions): OpenPortsOptions {
  known(options, [...PORT_KEYS, ...SHARED_KEYS]);
  const { device, netvsc, mac, vf, force, ...shared } = options;
  return { ...shared, ports: [{ device, netvsc, mac, vf, force }] };
}

/** Nobody's slip of the fingers is longer, and the search takes the product of two lengths. */
const MAX_SLIP = 128;

/**
 * The candidate that `wanted` is the beginning of, or that takes the fewest single-character edits to become it, if it
 * is near: two edits or half of the longer one's characters, and not each of them.
 */
export function nearest(wanted: string, candidates: readonly string[]): string | undefined {
  if (wanted === '' || wanted.length > MAX_SLIP) return undefined;
  const word = wanted.toLowerCase();
  const ranked = candidates
    .map((candidate) => {
      const name = candidate.toLowerCase();
      const edits = distance(word, name);
      const longer = Math.max(word.length, name.length);
      const begun = word.length > 1 && name.startsWith(word);
      const near = begun || (edits <= Math.max(2, longer / 2) && edits < longer);
      return { candidate, near, edits: begun ? Math.min(edits, 1) : edits };
    })
    .filter(({ near }) => near)
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.candidate;
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + same);
    }
    row = next;
  }
  return row[b.length]!;
}

function known(options: object, keys: readonly string[]): void {
  if (typeof options !== 'object' || options === null) invalid('options', 'they must be an object');
  for (const key of Object.keys(options)) {
    if (keys.includes(key)) continue;
    const near = nearest(key, keys);
    throw new TwinpathError('ERR_OPTION_UNKNOWN', {
      device: key,
      hint: near === undefined ? `Known are ${keys.join(', ')}.` : `Did you mean "${near}"?`,
    });
  }
}

function invalid(option: string, detail: string): never {
  throw new TwinpathError('ERR_OPTION_INVALID', { device: option, detail });
}

function text(option: string, value: unknown): void {
  if (value !== undefined && (typeof value !== 'string' || value === ''))
    invalid(option, 'it must be a non-empty string');
}

/** `device` says all: what is there decides whether it is a pair. */
function refuseBesideDevice({ netvsc, mac, vf, force }: PortOptions): void {
  const others = Object.entries({ netvsc, mac, vf }).filter(([, value]) => value !== undefined);
  const [other] = others.map(([name]) => name).concat(force === true ? 'force' : []);
  if (other !== undefined)
    invalid('device', `it goes without "${other}": it takes a pair or one card alone, whichever is there`);
}

function flag(option: string, value: unknown): boolean {
  if (typeof value !== 'boolean') invalid(option, 'it must be true or false');
  return value;
}

function whole(option: string, value: unknown, least: number, most: number): number {
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    invalid(option, `it must be a whole number from ${least} to ${most}, not ${String(value)}`);
  }
  return value as number;
}

function among(option: string, value: unknown, allowed: readonly number[]): number {
  if (!allowed.includes(value as number))
    invalid(option, `it must be one of ${allowed.join(', ')}, not ${String(value)}`);
  return value as number;
}

function oneOf<const T extends string>(option: string, value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) {
    const near = typeof value === 'string' ? nearest(value, allowed) : undefined;
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: option,
      detail: `it must be one of ${allowed.join(', ')}, not ${String(value)}`,
      ...(near === undefined ? {} : { hint: `Did you mean "${near}"?` }),
    });
  }
  return value as T;
}

function plainObject(option: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    invalid(option, 'it must be an object');
  return value as Record<string, unknown>;
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
    // One number for each memory there, also when other threads of the process ask for theirs.
    const from = numbers.get(buffer) ?? Atomics.add(words, control.at('forwarders'), 1) + 1;
    numbers.set(buffer, from);
    return { shared, port, from };
  });
}

function cloneable(option: string, value: Record<string, unknown>): Record<string, unknown> {
  try {
    structuredClone(value);
    return value;
  } catch (error) {
    return invalid(option, `it must survive a structured clone: ${(error as Error).message}`);
  }
}

function handlerUrl(handler: unknown): string {
  if (handler === undefined)
    invalid('handler', 'every port needs one: a URL or an absolute path of a module');
  try {
    const url =
      handler instanceof URL
        ? handler
        : new URL(String(handler).startsWith('/') ? `file://${String(handler)}` : String(handler));
    fileURLToPath(url);
    return url.href;
  } catch {
    return invalid('handler', `${String(handler)} is neither a file URL nor an absolute path`);
  }
}
