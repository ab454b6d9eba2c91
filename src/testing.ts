/**
 * The test kit: `import { HandlerTest } from 'twinpath/testing'`.
 *
 * A {@link HandlerTest} makes bursts of packets from bytes, calls a handler with them as a queue worker does, and returns
 * the verdict on each packet and its bytes afterwards. It needs no device, no root and no Linux: handlers can be tested
 * wherever Node runs. It sends no packet to another port, path or application; it only says where each would go.
 */
import { configured } from './handler/configured.ts';
import { isKept, isTeed } from './handler/handler.ts';
import { handlerOf, type LoadContext, type LoadedHandler, loadHandler } from './handler/load-handler.ts';
import {
  Burst,
  DROP,
  ETHERNET_BYTES,
  FORWARD,
  type HandlerModule,
  Path,
  TEE,
  type Verdict,
} from './handler.ts';
import { newHandlerMemory } from './memory/handler-memory.ts';
import { BURST, HEADROOM, type PathId } from './memory/layout.ts';
import { setMac } from './memory/macs.ts';
import { ChecksumStatus, type MetadataName } from './memory/metadata.ts';
import { Memory } from './memory/shared.ts';

/** A URL object or its text. Spelled out, so that this file's types need neither Node's nor the DOM's. */
export type ModuleUrl = string | { readonly href: string };

/** The handler's context. */
export interface HandlerTestOptions {
  /** A port's `handlerOptions`. Default {}. */
  readonly options?: Record<string, unknown>;
  /** MAC address of each port, 1 to 16. Default one port, '02:00:00:00:00:02'. */
  readonly macs?: readonly string[];
  /** The worker's queue, 0 to `queues` - 1. Default 0. */
  readonly queue?: number;
  /** Queues of each port, 1 to 64. Default 1. */
  readonly queues?: number;
  /** The port's option `metadata`, in addition to what the module asks for. Default none. */
  readonly metadata?: readonly MetadataName[];
  /** Frames for packets that the handler sends in one burst or tick; `burst.send` returns false after. Default 192. */
  readonly freeFrames?: number;
  /** Memory of an earlier test's handler, whose worker this one replaces or has beside it. Default none. */
  readonly sharedWith?: HandlerTest;
  /** The clock that the handler's `context.clock` reads, in nanoseconds. Default the machine's. */
  readonly now?: () => number;
}

/** The source of the packets of a burst. */
export interface PacketOrigin {
  /** Number of the port. Default 0. */
  readonly port?: number;
  /** `Path.SYNTHETIC`, the default, `Path.VF`, or `Path.HOST` for packets of the machine's own stack. */
  readonly path?: PathId;
  /** RSS hash of every packet. Default 0, as with one queue. */
  readonly hash?: number;
  /** Time of every packet, in nanoseconds of the device's clock. Default 0n, not known. */
  readonly time?: bigint;
  /** Position of the flow rule that gave the packets to the handler. Default -1, none. */
  readonly rule?: number;
  /** Whether the device has verified their checksums. Default false. */
  readonly checksumVerified?: boolean;
}

/** The handler's decision on a packet. */
export interface Outcome {
  /** A number that is not a verdict counts as DROP, as in a port. */
  readonly verdict: Verdict;
  /** Whether the application gets a copy: TEE is beside the verdict. */
  readonly teed: boolean;
  /** FORWARD: number of the port that the packet goes to. Else undefined. */
  readonly target: number | undefined;
  /** A copy of the packet as the handler left it: what it has ordered is not carried out. */
  readonly bytes: Uint8Array;
  /** What it has ordered: `burst.offload` and `burst.tag`; 0 nothing. */
  readonly offload: number;
  readonly tag: number;
  /** The exception of the handler on this packet, which drops it. Else undefined. */
  readonly error: unknown;
}

/** A packet that the handler made itself, with `burst.send`. */
export interface SentPacket {
  readonly port: number;
  readonly bytes: Uint8Array;
  /** What it has ordered: `packet.offload` and `packet.tag`; 0 nothing. */
  readonly offload: number;
  readonly tag: number;
}

const FRAME_SIZE = 2048;
/** Bytes of the longest packet, as in a port with `frameSize: 2048`. */
const MAX_PACKET_BYTES = FRAME_SIZE - HEADROOM;
/** A real frame still has the bytes of its last packet. This value finds handlers that rely on zeros. */
const OLD_BYTE = 0xa5;
const DEFAULT_MACS = ['02:00:00:00:00:02'];
const DEFAULT_FREE_FRAMES = 192;

/** One worker's handler. Keeps the handler's state between calls, as a worker does. */
export class HandlerTest {
  /** Packets that the handler has sent with `burst.send`, oldest first. Clear it with `splice(0)`. */
  readonly sent: SentPacket[] = [];
  /** What the handler has sent with `context.postMessage`, oldest first: clones. Clear it with `splice(0)`. */
  readonly messages: unknown[];
  readonly #memory: Memory;
  readonly #burst: Burst;
  readonly #handler: LoadedHandler;
  readonly #sendable: number;
  readonly #shared: SharedArrayBuffer;
  #port = 0;
  /** Offsets of the frames that `burst.send` may fill. */
  #free: number[] = [];

  private constructor(
    { memory, burst, shared, messages }: TestContext,
    handler: LoadedHandler,
    freeFrames: number,
  ) {
    this.messages = messages;
    this.#shared = shared;
    this.#memory = memory;
    this.#burst = burst;
    this.#handler = handler;
    this.#sendable = freeFrames;
    burst.bind({
      take: () => this.#take(),
      post: (offset, length, offload, tag) => this.#post(offset, length, offload, tag),
      put: (offset) => void this.#free.push(offset),
    });
  }

  /** The memory that a test's handler shares with that of another. Not for tests. */
  static sharedOf(test?: HandlerTest): SharedArrayBuffer {
    return test === undefined ? newHandlerMemory() : test.#shared;
  }

  /**
   * Loads a handler module, JavaScript or WebAssembly, as a port does.
   *
   * @throws TwinpathError ERR_HANDLER if the module cannot be loaded or exports no handler, and what its `create`
   *   throws; RangeError for settings out of range
   */
  static async load(url: ModuleUrl, settings: HandlerTestOptions = {}): Promise<HandlerTest> {
    const { options, context, freeFrames } = prepare(settings);
    const handler = await loadHandler(typeof url === 'string' ? url : url.href, options, context);
    return new HandlerTest(context, handler, freeFrames);
  }

  /**
   * Takes a module's namespace (what `import * as` makes of it), or an object of its shape:
   * `{ default: handler }` or `{ create }`.
   *
   * @throws as {@link HandlerTest.load}
   */
  static of(module: HandlerModule, settings: HandlerTestOptions = {}): HandlerTest {
    const { options, context, freeFrames } = prepare(settings);
    const handler = handlerOf(module, 'the handler', options, context);
    return new HandlerTest(context, handler, freeFrames);
  }

  /**
   * Calls the handler with these packets, in bursts of at most 64. If it throws, its current packet is dropped, and it is
   * called again with the packets after that one. If it has taken no packet yet, the whole burst is dropped.
   *
   * @param packets from the Ethernet header on, without frame check sequence, 0 to 1792 bytes each
   * @returns one outcome per packet, in the same order
   * @throws RangeError for a packet that is too long, or a port that does not exist
   */
  run(packets: readonly ArrayLike<number>[], origin: PacketOrigin = {}): Outcome[] {
    const { ports } = this.#memory.layout.geometry;
    const { port = 0 } = origin;
    if (!(Number.isInteger(port) && port >= 0 && port < ports)) {
      throw new RangeError(`there is no port ${port}: the test has ${ports}`);
    }
    this.#port = port;
    const outcomes: Outcome[] = [];
    for (let from = 0; from < packets.length; from += BURST) {
      this.#fill(packets.slice(from, from + BURST), origin);
      this.#handle(outcomes);
    }
    return outcomes;
  }

  /**
   * Calls the handler's `tick`, as between two bursts. Throws what it throws.
   *
   * @returns false if the handler has no `tick`
   */
  tick(port = 0): boolean {
    const { tick } = this.#handler;
    if (tick === undefined) return false;
    this.#port = port;
    this.#freeFrames();
    this.#burst.begin(0);
    tick(this.#burst, port);
    return true;
  }

  /**
   * Gives the handler other options, as `port.setHandlerOptions` does: all of them, cloned.
   *
   * @throws what its `configure` throws, and Error if that returns no function: then it has the options before
   * @returns false if it has no `configure`
   */
  configure(options: Record<string, unknown>): boolean {
    const { configure } = this.#handler;
    if (configure === undefined) return false;
    configured(configure, structuredClone(options))();
    return true;
  }

  /**
   * Gives the handler a message, as `port.postMessage` does: a clone. Throws what it throws.
   *
   * @returns false if the handler has no `message`
   */
  message(value: unknown, port = 0): boolean {
    const { message } = this.#handler;
    if (message === undefined) return false;
    this.#port = port;
    this.#freeFrames();
    this.#burst.begin(0);
    message(structuredClone(value), this.#burst, port);
    return true;
  }

  #fill(packets: readonly ArrayLike<number>[], origin: PacketOrigin): void {
    const { path = Path.SYNTHETIC, hash = 0, time = 0n, rule = -1, checksumVerified = false } = origin;
    const burst = this.#burst;
    const { bytes, layout } = this.#memory;
    packets.forEach((packet, i) => {
      if (packet.length > MAX_PACKET_BYTES) {
        throw new RangeError(`a packet has ${packet.length} bytes: at most ${MAX_PACKET_BYTES} fit a frame`);
      }
      const frame = layout.frames + i * FRAME_SIZE;
      const start = frame + HEADROOM;
      bytes.fill(OLD_BYTE, frame, frame + FRAME_SIZE);
      bytes.set(packet, start);
      burst.offset[i] = start;
      burst.bytes[i] = packet.length;
      burst.hash[i] = hash;
      burst.offload[i] = 0;
      burst.port[i] = this.#port;
      burst.path[i] = path;
      burst.tag[i] = 0;
      burst.rule[i] = rule + 1;
      burst.time[i] = time;
      burst.checksum[i] = checksumVerified ? ChecksumStatus.VERIFIED : ChecksumStatus.UNKNOWN;
    });
    this.#freeFrames();
    burst.begin(packets.length);
  }

  #freeFrames(): void {
    const first = this.#memory.layout.frames + BURST * FRAME_SIZE + HEADROOM;
    this.#free = Array.from({ length: this.#sendable }, (_, i) => first + i * FRAME_SIZE);
  }

  #handle(outcomes: Outcome[]): void {
    const burst = this.#burst;
    while (burst.length > 0) {
      const [done, error] = this.#call();
      const failed = error === undefined ? done : burst.cursor < 0 ? 0 : done - 1;
      for (let i = 0; i < done; i++) outcomes.push(this.#outcome(i, i < failed ? undefined : error));
      if (done === burst.length) return;
      burst.shift(done);
    }
  }

  /** Returns how many packets the handler has decided on, and its exception. */
  #call(): [done: number, error: unknown] {
    const burst = this.#burst;
    try {
      this.#handler.handle(burst);
      return [burst.length, undefined];
    } catch (error) {
      return [burst.cursor < 0 ? burst.length : burst.cursor + 1, error ?? new Error(String(error))];
    }
  }

  #outcome(i: number, error: unknown): Outcome {
    const { offset, bytes, verdict, target, offload, tag } = this.#burst;
    const teed = error === undefined && isTeed(verdict[i]!);
    const known = error === undefined && isKept(verdict[i]!);
    const decided = known ? ((teed ? verdict[i]! & ~TEE : verdict[i]!) as Verdict) : DROP;
    return {
      verdict: decided,
      teed,
      target: decided === FORWARD ? target[i] : undefined,
      bytes: this.#memory.bytes.slice(offset[i]!, offset[i]! + bytes[i]!),
      offload: offload[i]!,
      tag: tag[i]!,
      error,
    };
  }

  #take(): number {
    const offset = this.#free.pop();
    if (offset === undefined) return -1;
    this.#memory.bytes.fill(OLD_BYTE, offset - HEADROOM, offset - HEADROOM + FRAME_SIZE);
    return offset;
  }

  #post(offset: number, length: number, offload: number, tag: number): boolean {
    if (length < ETHERNET_BYTES || length > MAX_PACKET_BYTES) return false;
    const bytes = this.#memory.bytes.slice(offset, offset + length);
    this.sent.push({ port: this.#port, bytes, offload, tag });
    return true;
  }
}

interface TestContext extends LoadContext {
  readonly shared: SharedArrayBuffer;
  readonly messages: unknown[];
}

function prepare(settings: HandlerTestOptions) {
  const {
    options = {},
    macs = DEFAULT_MACS,
    freeFrames = DEFAULT_FREE_FRAMES,
    metadata = [],
    now,
  } = settings;
  const queues = whole('queues', settings.queues ?? 1, 1, 64);
  const queue = whole('queue', settings.queue ?? 0, 0, queues - 1);
  const ports = whole('macs.length', macs.length, 1, 16);
  whole('freeFrames', freeFrames, 0, DEFAULT_FREE_FRAMES);
  const memory = Memory.create({
    pageSize: 4096,
    ports,
    queues,
    frameSize: FRAME_SIZE,
    framesPerWorker: BURST + DEFAULT_FREE_FRAMES,
    ringEntries: 64,
  });
  macs.forEach((mac, port) => {
    if (!/^([\da-f]{2}:){5}[\da-f]{2}$/i.test(mac)) throw new RangeError(`${mac} is not a MAC address`);
    setMac(memory, port, mac);
  });
  const burst = new Burst(memory, queue);
  const shared = HandlerTest.sharedOf(settings.sharedWith);
  const messages: unknown[] = [];
  const post = (value: unknown): boolean => messages.push(structuredClone(value)) > 0;
  const context = { queue, queues, memory, burst, metadata, now, shared, messages, post };
  return { options, context, freeFrames };
}

function whole(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new RangeError(`${name} is ${value}: it must be a whole number from ${least} to ${most}`);
}
