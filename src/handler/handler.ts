/** A handler, which an application writes in a module of its own, and its verdicts. */
import type { MetadataName } from '../memory/metadata.ts';
import type { Burst, FrameSource } from './burst.ts';
import type { Clock } from './clock.ts';

// The verdicts, in XDP's vocabulary. The numbers are part of the WASM ABI.

/** Frees the packet's frame. The default. */
export const DROP = 0;
/** Sends the packet out of the port it came from, on the path that owns the queue. */
export const TX = 1;
/** Sends the packet out of the port whose number is in `burst.target[i]`. */
export const FORWARD = 2;
/** Gives the packet to the machine's own network stack, as if the NetVSC had received it. */
export const PASS = 3;
/** Gives the packet to the application's thread, which reads it from `port.packets()` or `port.bursts()`. */
export const DELIVER = 4;
/**
 * Beside a verdict, `PASS | TEE`, `TX | TEE` or `FORWARD | TEE`: the application gets a copy, and the packet goes its way. If the
 * application reads too slowly it gets none, which is counted as `teeFull`, and the packet goes its way all the same.
 */
export const TEE = 8;

/** A handler's decision for one packet, in `burst.verdict[i]`; {@link TEE} may be beside it. */
export type Verdict = typeof DROP | typeof TX | typeof FORWARD | typeof PASS | typeof DELIVER;

/** The verdict of a packet whose handler threw. Not for handlers. */
export const FAILED = 255;

/** Whether it is a verdict with {@link TEE} beside it. */
export const isTeed = (verdict: number): boolean => verdict > TEE && verdict <= (TEE | PASS);

/** Whether the packet goes anywhere: it is neither dropped nor has an unknown verdict. */
export const isKept = (verdict: number): boolean =>
  verdict !== DROP && (verdict <= DELIVER || isTeed(verdict));

/**
 * Called with every burst (1 to 64 packets, all of one port and one path) on the queue's own thread. It sets
 * `burst.verdict[i]` for each packet that should not be dropped. It must not keep the burst or its packets, and must not
 * wait: while it runs, its queue does nothing else, and makes no failover. If it throws, its current packet (the last
 * argument of `burst.packet`) is dropped and counted, and it is called again with the packets after that one. If it throws
 * before it has called `burst.packet`, the whole burst is dropped.
 */
export type Handler = (burst: Burst) => void;

/**
 * A handler with further methods, which `create` may return instead of a {@link Handler}. All are called on the worker's thread
 * between two bursts, and as little as {@link Handler} may they wait: a call that does not return costs the worker.
 */
export interface HandlerObject {
  /** Called with each burst. */
  readonly handle: Handler;
  /**
   * Called when no packet arrives too, for each port: to send packets of its own, or to expire entries of a table. The burst is empty:
   * `burst.send` sends out of that port.
   */
  readonly tick?: (burst: Burst, port: number) => void;
  /** Milliseconds between two ticks, 1 to 1000; a busy handler delays them. Default 10. */
  readonly tickMillis?: number;
  /**
   * Takes other options while it runs: `port.setHandlerOptions` and `twinpath set PORT handler.KEY=VALUE`. It checks them and gets
   * ready what they need, but changes nothing yet: it returns a function that puts them in place. To refuse them it throws. Once
   * every worker has agreed, each of them calls that function; if one refuses, none does. The function must not throw.
   *
   * @param options all options, changed or not, structured-cloned, as `create` gets them
   */
  readonly configure?: (options: Record<string, unknown>) => () => void;
  /**
   * Called with each message of `port.postMessage`, structured-cloned. If it throws, the promise that `postMessage` has returned
   * rejects.
   *
   * @param burst empty: `burst.send` sends out of the port
   * @param port number of the port that it was posted to
   */
  readonly message?: (value: unknown, burst: Burst, port: number) => void;
}

/** A handler that is called when no packet arrives too. */
export interface TickingHandler extends HandlerObject {
  /** See {@link HandlerObject.tick}. */
  readonly tick: (burst: Burst, port: number) => void;
}

/**
 * The function `in_place` of a handler in WebAssembly: a loop that moves packets from a receive ring to a transmit ring,
 * see docs/wasm-abi.md. It takes frames for packets of its own from `source`.
 */
export type InPlaceHandler = (
  source: FrameSource,
  at: number,
  from: number,
  to: number,
  count: number,
) => void;

/** Where a handler runs. */
export interface HandlerContext {
  /** This worker's queue, from 0. */
  readonly queue: number;
  /** Queues, and so workers, of the port. */
  readonly queues: number;
  /**
   * MAC address of each port, six bytes each; `burst.port[i]` is the index. They follow the device: a handler that reads
   * them for each packet sees a new address with the next packet.
   */
  readonly macs: readonly Uint8Array[];
  /**
   * The argument of every call of the handler. A handler that takes it from here, as a constant, and has no parameter is
   * about a nanosecond a packet faster. Before the first call it is empty and sends nothing.
   */
  readonly burst: Burst;
  /** The time. The handler calls `clock.update()` once a burst, if it needs it. */
  readonly clock: Clock;
  /**
   * Memory that all workers of the handler have, at least so many bytes: at first zeros. A worker that replaces a dead one finds
   * what is there. It ends when the port closes. For `create`; throws a RangeError for more than 1 GiB.
   */
  readonly shared: (bytes: number) => SharedArrayBuffer;
  /**
   * Sends the application a message, structured-cloned: an event 'message' of the port. Costs microseconds, and nothing while it
   * is not called. At most 256 of a worker's messages wait for the application.
   *
   * @returns false if as many wait already: the message is not sent, and counted as `messagesRefused`
   * @throws DataCloneError if the value cannot be cloned
   */
  readonly postMessage: (value: unknown) => boolean;
}

/** What `create` makes. */
export type Created = Handler | HandlerObject;

/**
 * A handler module's default export is a {@link Handler}; or it exports `create`, which is called
 * once in each worker, and again in a worker that replaces a dead one, with the port's `handlerOptions`.
 * If `create` throws, `openPort` rejects: with a TwinpathError as it is, with others as ERR_HANDLER.
 */
export interface HandlerModule {
  /**
   * The metadata of packets that the handler uses: `['time', 'rule']`. The option `metadata` adds to it. See docs/handlers.md.
   */
  readonly metadata?: readonly MetadataName[];
  /** The handler, for a module that needs neither options nor state. */
  readonly default?: Handler;
  /**
   * Makes the handler of one worker, on that worker's thread. `options` are the port's `handlerOptions`, structured-cloned.
   */
  readonly create?: (options: Record<string, unknown>, context: HandlerContext) => Created | Promise<Created>;
}
