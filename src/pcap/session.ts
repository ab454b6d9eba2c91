/**
 * Sessions with the calls of npm's `pcap`: an emitter of 'packet' events, from a port or from a file. Belongs to the thread that
 * made it.
 */
import { EventEmitter } from 'node:events';
import { compileFilter } from '../capture/filter/filter.ts';
import { FilterMachine } from '../capture/filter/machine.ts';
import { TwinpathError } from '../errors.ts';
import type { OpenPortOptions } from '../options.ts';
import { CaptureReader } from '../pcapng/reader.ts';
import { openPort, type Port } from '../port.ts';
import { flag, invalid, nonEmptyText, onlyKnown, plainObject, wholeNumber } from '../validation.ts';
import { headerOf, LINK_TYPES, type LinkType, type PacketWithHeader } from './decode/decode.ts';

/** Options of {@link createOfflineSession}. */
export interface OfflineSessionOptions {
  /** An expression of pcap-filter(7), as far as docs/from-pcap.md says. Default: every packet. */
  filter?: string;
}

/** Options of {@link createSession}. */
export interface LiveSessionOptions extends OfflineSessionOptions {
  /** Whether the interface accepts packets for any address. Default true. */
  promiscuous?: boolean;
  /** Bytes of a packet that the session gets at most. Default 65535. */
  snap_length?: number;
  /** Accepted, and without effect: the port's rings hold an eighth of its `frames`. */
  buffer_size?: number;
  /** Accepted, and without effect: packets come as soon as the thread has time for them. */
  buffer_timeout?: number;
  /** Only false: a port drives Ethernet. */
  monitor?: boolean;
  /** Further options of `openPort`. Default: one queue, so that packets come in order, and `host: 'inline'`. */
  port?: Omit<OpenPortOptions, 'handler' | 'handlerOptions'>;
}

/** Counters of a session, by libpcap's names. */
export interface CaptureStats {
  /** Packets that came by, whether the filter took them or not. */
  ps_recv: number;
  /** Packets that the devices' rings had no room for, or the kernel dropped before the port. */
  ps_ifdrop: number;
  /** Packets that the session did not get because its thread was too slow. */
  ps_drop: number;
}

interface SessionEvents {
  /** A packet that the filter takes. */
  packet: [PacketWithHeader];
  /** The file is through, or the port has closed. */
  complete: [];
  error: [Error];
}

/** A session runs until `close` is called: a program that does not end it does not end. */
export abstract class PcapSession extends EventEmitter<SessionEvents> {
  readonly is_live: boolean;
  readonly device_name: string;
  readonly filter: string;
  /** Name of the packets' first layer; null of a file without packets. */
  link_type: LinkType | null = null;
  opened = true;

  protected constructor(isLive: boolean, device: string, filter: string) {
    super();
    this.is_live = isLive;
    this.device_name = device;
    this.filter = filter;
  }

  /** Ends the session: it emits nothing any more. Resolves when all resources are released. May be called again. */
  close(): Promise<void> {
    this.opened = false;
    this.removeAllListeners();
    return this.end();
  }

  abstract stats(): CaptureStats;

  /** A session sends nothing. @throws ERR_OPTION_INVALID */
  inject(_data: Uint8Array): never {
    return invalid(
      'inject',
      'a session sends nothing',
      'Send from a handler of your own, with burst.send().',
    );
  }

  protected abstract end(): Promise<void>;

  /** Emits a packet. What a listener throws is no error of the session, which goes on: nobody catches it here. */
  protected emitPacket(packet: PacketWithHeader): void {
    try {
      this.emit('packet', packet);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }

  /** Emits what the program may handle; without a listener it is thrown, as for any emitter. */
  protected fail(error: unknown): void {
    if (this.opened) this.emit('error', error as Error);
  }
}

const HANDLER = new URL(
  import.meta.url.endsWith('.js') ? './sniff-handler.js' : './sniff-handler.ts',
  import.meta.url,
);
const NO_STATS: CaptureStats = { ps_recv: 0, ps_ifdrop: 0, ps_drop: 0 };
const MAX_SNAP = 262_144;

class LiveSession extends PcapSession {
  readonly #snap: number;
  readonly #closing = new AbortController();
  readonly #opening: Promise<void>;
  #port: Port | undefined;

  constructor(device: string, options: LiveSessionOptions) {
    const {
      filter = '',
      promiscuous = true,
      snap_length: snap = 65_535,
      monitor = false,
      port = {},
    } = options;
    super(true, device, filter);
    this.link_type = 'LINKTYPE_ETHERNET';
    this.#snap = wholeNumber('snap_length', snap, 1, MAX_SNAP);
    if (flag('monitor', monitor)) invalid('monitor', 'a port drives Ethernet and no radio');
    plainObject('port', port);
    this.#opening = this.#run({
      ...{
        queues: 1,
        host: 'inline',
        ...(device === '' ? {} : namesDevice(port) ? {} : { device }),
        ...port,
      },
      handler: HANDLER,
      handlerOptions: { program: compileFilter(filter) },
      configuration: { promiscuous: flag('promiscuous', promiscuous), ...port.configuration },
      signal: this.#closing.signal,
    });
  }

  stats(): CaptureStats {
    if (this.#port === undefined) return { ...NO_STATS };
    const { received, fromHost, teeFull, paths } = this.#port.stats();
    const kernel = [paths.vf, paths.synthetic].flatMap(
      ({ kernel: { rxDropped, rxRingFull, lostInDevice } }) => [...[rxDropped, rxRingFull, lostInDevice]],
    );
    return {
      ps_recv: received + fromHost,
      ps_ifdrop: kernel.reduce((sum, packets) => sum + packets, 0),
      ps_drop: teeFull,
    };
  }

  protected async end(): Promise<void> {
    this.#closing.abort();
    await this.#opening;
    await this.#port?.close();
  }

  /** Opens the port and emits its packets until it is closed. Never rejects. */
  async #run(options: OpenPortOptions): Promise<void> {
    try {
      const port = await openPort(options);
      this.#port = port;
      port.on('error', (error) => this.fail(error));
      for await (const burst of port.bursts()) {
        for (let i = 0; i < burst.length && this.opened; i++) {
          const data = burst.data(i);
          const caplen = Math.min(data.length, this.#snap);
          const header = headerOf(burst.timestamp[i]!, caplen, data.length);
          const buf = Buffer.from(data.subarray(0, caplen));
          this.emitPacket({ buf, header, link_type: this.link_type! });
        }
        if (!this.opened) return;
      }
      if (this.opened) this.emit('complete');
    } catch (error) {
      this.fail(error);
      await this.#port?.close();
    }
  }
}

const namesDevice = (port: object): boolean => ['device', 'netvsc', 'mac', 'vf'].some((name) => name in port);

/** Packets of a file that are emitted before the thread's timers and sockets have their turn. */
const OFFLINE_BURST = 256;

class OfflineSession extends PcapSession {
  readonly #reader: CaptureReader;
  readonly #program: Int32Array;
  #machine: FilterMachine | undefined;
  #machineFor: ArrayBufferLike | undefined;
  #received = 0;
  #next: NodeJS.Immediate | undefined;

  constructor(file: string, { filter = '' }: OfflineSessionOptions) {
    super(false, file, filter);
    this.#program = compileFilter(filter);
    this.#reader = new CaptureReader(nonEmptyText('path', file));
    this.#next = setImmediate(() => this.#emitSome());
  }

  stats(): CaptureStats {
    return { ...NO_STATS, ps_recv: this.#received };
  }

  protected async end(): Promise<void> {
    clearImmediate(this.#next);
    this.#reader.close();
  }

  #emitSome(): void {
    try {
      for (let i = 0; i < OFFLINE_BURST; i++) {
        const packet = this.#reader.next();
        if (packet === undefined) {
          this.#reader.close();
          this.emit('complete');
          return;
        }
        this.#received++;
        this.link_type = nameOf(packet.linkType, this.device_name);
        const { data, nanos = 0n, length } = packet;
        if (!this.#takes(data)) continue;
        const header = headerOf(nanos, data.length, length);
        this.emitPacket({ buf: Buffer.from(data), header, link_type: this.link_type });
        if (!this.opened) return;
      }
      this.#next = setImmediate(() => this.#emitSome());
    } catch (error) {
      if (!(error instanceof TwinpathError)) throw error; // a listener's
      this.#reader.close();
      this.fail(error);
    }
  }

  #takes(data: Uint8Array): boolean {
    if (this.filter === '') return true;
    if (this.link_type !== 'LINKTYPE_ETHERNET')
      invalid('filter', `a packet has the link type ${this.link_type}: filters are for Ethernet`);
    if (this.#machineFor !== data.buffer) {
      this.#machineFor = data.buffer;
      this.#machine = new FilterMachine(new Uint8Array(data.buffer));
    }
    return this.#machine!.matches(this.#program, data.byteOffset, data.length);
  }
}

function nameOf(linkType: number, file: string): LinkType {
  const [name] = Object.entries(LINK_TYPES).find(([, number]) => number === linkType) ?? [];
  if (name !== undefined) return name as LinkType;
  const known = Object.keys(LINK_TYPES).join(', ');
  throw new TwinpathError('ERR_CAPTURE_FILE', {
    device: file,
    detail: `a packet has the link type ${linkType}; known are ${known}`,
  });
}

const LIVE = ['filter', 'promiscuous', 'snap_length', 'buffer_size', 'buffer_timeout', 'monitor', 'port'];

/**
 * Opens a port on an interface, and emits a 'packet' event for each packet that comes in or that the machine sends; both go their
 * way. The port is opened after this returns: what fails then is an 'error' event.
 *
 * @param device name of the interface; '' for the one pair that the machine does not use
 * @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function createSession(device: string, options: LiveSessionOptions = {}): PcapSession {
  if (typeof device !== 'string') invalid('device', 'it must be the name of an interface');
  onlyKnown(plainObject('options', options), LIVE, `Known are ${LIVE.join(', ')}.`);
  return new LiveSession(device, options);
}

/**
 * Emits a 'packet' event for each packet of a pcap or pcapng file, then 'complete'. Needs no port: it works on any platform. A
 * damaged file ends with an 'error' event, after the packets before the damage.
 *
 * @throws ERR_CAPTURE_FILE, ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function createOfflineSession(path: string, options: OfflineSessionOptions = {}): PcapSession {
  onlyKnown(plainObject('options', options), ['filter'], 'Known is filter.');
  return new OfflineSession(path, options);
}
