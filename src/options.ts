/**
 * The options of `openPort` and `openPorts`: types, names, defaults. settings.ts checks them.
 */
import type { ConfigurationChange, IdleMode } from './configuration.ts';
import type { SharedMemory } from './memory/geometry.ts';
import type { MetadataName } from './memory/metadata.ts';

/** A handler module and what it gets. */
export interface HandlerOptions {
  /** The handler module, JavaScript or WebAssembly: a URL, a `file:` string or an absolute path. */
  handler?: string | URL;
  /** Passed to the module's `create`; structured-cloneable. */
  handlerOptions?: Record<string, unknown>;
}

/** One port. Without `device`, `netvsc`, `mac` and `vf` it is the one pair that has no address. */
export interface PortOptions {
  /**
   * Any Ethernet device by name, MAC or PCI address. If it is a NetVSC or net_failover device, or belongs to one, the port
   * takes that pair. Else it takes the card alone: AF_XDP on the card, and a tap that is redirected to and from it, for PASS
   * and as the synthetic path.
   */
  device?: string;
  /** The NetVSC: interface name or MAC address. */
  netvsc?: string;
  /** The NetVSC by MAC address. Together with `netvsc` both must match. */
  mac?: string;
  /** The VF by name, MAC or PCI address: the port takes its NetVSC. false: the port uses no VF. */
  vf?: string | false;
  /** Take the named device although it is not a NetVSC. Default false. */
  force?: boolean;
  /** What the devices shall have from the start: see `Port.configure`. */
  configuration?: ConfigurationChange;
}

/**
 * What a handler's PASS does, and where the packets of the machine's own stack go:
 *
 * - `ingress`: PASS gives a packet to the stack as if the NetVSC had received it. The stack transmits through the NetVSC as
 *   it does without a port.
 * - `inline`: the same, and the handler gets the packets that the stack transmits, with `burst.path[i]` 3.
 * - `off`: the stack gets nothing; PASS drops.
 */
export type HostMode = 'ingress' | 'inline' | 'off';

/**
 * What spreads flows over queues:
 *
 * - `auto`: the device, where it accepts the port's key and table. Workers hash each packet anyway, and hand over those that
 *   came to the wrong queue.
 * - `software`: the workers alone. The port leaves the devices' settings as they are.
 * - `device`: the devices alone, with the settings that they have. Workers compute no hash and hand nothing over.
 */
export type RssMode = 'auto' | 'software' | 'device';

/**
 * Which packets bypass the handler, on both paths and in both directions, and stay with the machine's own stack:
 *
 * - `platform`: the packets that a machine on Azure needs: from or to 168.63.129.16 (probes, agent, DNS) and 169.254.169.254
 *   (metadata), DHCP, DHCPv6, and ARP replies.
 * - `none`: no packets.
 *
 * BPF programs do this in the kernel. So it needs no host path, and works with `host: 'off'` too. A VF that has not joined
 * its NetVSC receives these packets itself, as it does without a port.
 */
export type ProtectMode = 'platform' | 'none';

/** A port with another memory, for `forwardTo`: a {@link Port} is one. */
export interface ForwardTarget {
  /** Where copies for the port go. */
  readonly route: RelayRoute;
}

/** Where copies for a port with another memory go. Cloneable. */
export interface RelayRoute {
  readonly shared: SharedMemory;
  /** Its number there. */
  readonly port: number;
  /** Number of the memory that forwards: unique in the process. */
  readonly from: number;
}

/**
 * A network that is a capture file: its packets come in on the port, the first one of several, and what the ports send goes
 * to another file. `Port.replayed` resolves when the file is through. Packets are taken from Ethernet links only; those that
 * the recording calls outbound are left out.
 */
export interface PcapNetwork {
  /** Path or file URL of a pcap or pcapng file. */
  pcap: string | URL;
  /** File for what the ports send: pcap if its name ends in `.pcap`, else pcapng. Default: none. */
  out?: string | URL;
  /**
   * 'full', the default: each packet as soon as the port has room for it. A number: so many times as fast as they were recorded;
   * 1 is the recording's speed.
   */
  speed?: 'full' | number;
  /** How often the file is played, 1 to 10^9. Default 1. */
  times?: number;
  /** The port's MAC address: that of the recorded machine, for handlers that look at it. Default '02:00:00:00:00:01'. */
  mac?: string;
}

/** Options that ports opened together share. */
export interface SharedOptions extends HandlerOptions {
  /** Queues, and worker threads, of each port: 1 to 64. Default: one per CPU, 8 at most. */
  queues?: number;
  /**
   * What workers do when idle, unless a port's configuration says otherwise. Default 'adaptive'. 'interrupt' takes the least CPU time. From some 250,000 packets a second
   * on it lets packets wait for up to 0.25 ms, as network cards do.
   */
  mode?: IdleMode;
  /**
   * Bytes of a packet frame: 2048, 4096 or 16384. Default 2048, which is enough for an MTU up to 1765; 4096 for 3813, and
   * 16384 for jumbo frames, up to 15900.
   */
  frameSize?: number;
  /** Frames of each queue of each port: 4096 to 65536 by powers of two. Default 8192. */
  frames?: number;
  /** Pin worker i to CPU i (modulo the number of CPUs). Default false. */
  pin?: boolean;
  /** Network namespace of the devices: a name in /run/netns or a path. Default: the process's. */
  netns?: string;
  /**
   * Devices that no port takes, nor the pairs that they belong to: names, MAC or PCI addresses. They need not exist. Default: none.
   */
  ignore?: readonly string[];
  /** How the tap is driven. 'io_uring', the default, falls back to plain reads and writes where the kernel forbids it. */
  tap?: 'io_uring' | 'read/write';
  /** How packets are redirected between tap and NetVSC. 'tcx', the default, falls back to tc filters on older kernels. */
  redirect?: 'tcx' | 'clsact';
  /**
   * Whether the port's tcx programs on the NetVSC run before those of other programs, or after them. Other programs never see
   * the packets of the VF; with 'first', the default, they do not see the other packets either. tc filters have a priority
   * of their own.
   */
  redirectOrder?: 'first' | 'last';
  /**
   * Which XDP hook of a VF the port accepts. 'native': the driver's. If the driver refuses, the port does not use the VF and
   * reports why. 'any', the default: else the kernel's generic hook, which makes a socket buffer of each packet first.
   */
  xdp?: 'native' | 'any';
  /** How the machine's own stack takes part. Default 'ingress'. */
  host?: HostMode;
  /** With host 'off': take even an interface that has the default route, which cuts the machine off. Default false. */
  cutHost?: boolean;
  /**
   * Packets that bypass the handler. Default: 'platform' for a NetVSC that has the default route when the port is opened,
   * unless `host` is 'off'; else 'none'.
   */
  protect?: ProtectMode;
  /** What spreads flows over the queues. Default 'auto'. */
  rss?: RssMode;
  /** Key of the Toeplitz hash: 'default', 'symmetric', 40 bytes or their hexadecimal digits. */
  rssKey?: string | Uint8Array;
  /**
   * Metadata of packets for the handler, in addition to what its module asks for: the device's 'time', 'hash' and 'checksum', the
   * flow 'rule' that matched; and what it may order, a VLAN 'tag' and an 'offload'. See docs/handlers.md. Default none.
   */
  metadata?: readonly MetadataName[];
  /** Ports opened earlier, apart from these, to which handlers may forward. Their numbers follow those of these ports. */
  forwardTo?: readonly ForwardTarget[];
  /** If a handler has not returned after so many milliseconds, its worker is replaced. 100 to 60000, default 2000. */
  stuckMillis?: number;
  /**
   * If importing the handler's module and its `create` have not finished after so many milliseconds, loading it has failed.
   * 100 to 600000, default 30000.
   */
  loadMillis?: number;
  /**
   * 'kernel', the default, or no device at all: 'memory', whose network is a thread of this process, 'loop', where each path
   * returns what it transmits, or a file whose packets come in: {@link PcapNetwork}.
   */
  network?: 'kernel' | 'memory' | 'loop' | PcapNetwork;
  /**
   * Whether `twinpath ps`, `stats`, `top`, `set` and `stop` may attach to the ports, through a socket that only this user and
   * root can open: docs/control.md. Default: true for ports on devices, if the user has a folder for it (root has).
   */
  control?: boolean;
  /**
   * Who announces maintenance of this machine. 'azure': its metadata service is asked once a second, and ports emit 'maintenance'
   * events; before a freeze they leave the VF, and return to it afterwards. 'azure=http://ADDRESS' asks there. Default: nobody.
   */
  maintenance?: string;
  /** Closes the ports when it aborts. */
  signal?: AbortSignal;
}

/** Options of `openPort`. */
export type OpenPortOptions = PortOptions & SharedOptions & { handler: string | URL };

/**
 * One port of several. `handler` and `handlerOptions` are its own, in place of the shared ones. With `handlerOptions` alone it has
 * the shared module, made once more with these; with `handler` alone that module has no options.
 */
export type OnePortOptions = PortOptions & HandlerOptions;
/** Options of `openPorts`. */
export type OpenPortsOptions = SharedOptions & {
  /**
   * The ports, 1 to 16; their numbers are their positions here. 'all', the default: one on every NetVSC or net_failover device
   * that the machine does not use, by ifindex. The machine uses a device that has an address or a default route; a link-local
   * IPv6 address alone is no use.
   */
  ports?: OnePortOptions[] | 'all';
  /** With 'all': what each of the ports has. */
  each?: { vf?: false | undefined; configuration?: ConfigurationChange | undefined };
};

/** Of `openPort`, the options of one port; see {@link PortOptions}. */
export const PORT_KEYS = ['device', 'netvsc', 'mac', 'vf', 'force', 'configuration'] as const;

/** See {@link SharedOptions}. */
export const SHARED_KEYS = [
  'handler',
  'handlerOptions',
  'queues',
  'mode',
  'frameSize',
  'frames',
  'pin',
  'netns',
  'ignore',
  'tap',
  'redirect',
  'redirectOrder',
  'xdp',
  'host',
  'cutHost',
  'protect',
  'rss',
  'rssKey',
  'metadata',
  'forwardTo',
  'stuckMillis',
  'loadMillis',
  'network',
  'control',
  'maintenance',
  'signal',
] as const;

/** Defaults that depend on nothing else. */
export const DEFAULTS = {
  mode: 'adaptive',
  frameSize: 2048,
  frames: 8192,
  pin: false,
  tap: 'io_uring',
  redirect: 'tcx',
  redirectOrder: 'first',
  xdp: 'any',
  host: 'ingress',
  cutHost: false,
  rss: 'auto',
  rssKey: 'default',
  metadata: [],
  forwardTo: [],
  stuckMillis: 2000,
  loadMillis: 30_000,
  network: 'kernel',
} as const satisfies Partial<SharedOptions>;
