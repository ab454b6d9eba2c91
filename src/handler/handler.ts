/** What an application writes: a module that each queue worker imports. */
import type { Burst, FrameSource } from './burst.ts';

/**
 * Called with every burst (1 to 64 packets, all of one port and one path) on the queue's own thread.
 * Set `burst.verdict[i]` for each packet that should not be dropped. May not keep the burst or its packets,
 * and must not wait: while it runs, its queue does nothing else, a failover included. An exception drops
 * the packet that was looked at last and is counted; the packets after it are offered again. A handler
 * that throws without having called `burst.packet` loses the whole burst.
 */
export type Handler = (burst: Burst) => void;

/**
 * A handler that also wants to be called when nothing arrives: to send packets of its own, to let entries of a
 * table expire. What `create` may return instead of a {@link Handler}.
 */
export interface TickingHandler {
  /** Called with each burst. */
  readonly handle: Handler;
  /** Called for each port between two bursts, with an empty burst: `burst.send` sends out of that port. */
  readonly tick: (burst: Burst, port: number) => void;
  /** Milliseconds between two ticks, 1 to 1000; a busy handler delays them. Default 10. */
  readonly tickMillis?: number;
}

/**
 * Of a handler in WebAssembly that has it: `in_place`, the loop that takes packets from a receive ring to a transmit ring,
 * see docs/wasm-abi.md. Frames that it makes packets of are those of `source`.
 */
export type InPlaceHandler = (
  source: FrameSource,
  at: number,
  from: number,
  to: number,
  count: number,
) => void;

/** What a handler may know about where it runs. */
export interface HandlerContext {
  /** This worker's queue, from 0. */
  readonly queue: number;
  /** Queues, and so workers, of the port. */
  readonly queues: number;
  /**
   * MAC address of each port, six bytes each; `burst.port[i]` is the index. They follow the device: a handler that
   * reads them for each packet, and keeps no copy, goes by an address that was changed from the next packet on.
   */
  readonly macs: readonly Uint8Array[];
  /**
   * What the handler is called with, each time. A handler that takes it from here, as a constant, and no argument costs
   * about a nanosecond a packet less. Empty until the handler is called; it sends nothing before.
   */
  readonly burst: Burst;
}

/**
 * A handler module's default export is a {@link Handler}; or it exports `create`, which is called
 * once in each worker, and again in a worker that replaces a dead one, with the port's `handlerOptions`.
 * What `create` throws, `openPort` rejects with: a TwinpathError as it is, others as ERR_HANDLER.
 */
export interface HandlerModule {
  /** The handler, for a module that needs neither options nor state. */
  readonly default?: Handler;
  /**
   * Makes the handler of one worker, on that worker's thread. `options` are the port's `handlerOptions`, structured-cloned.
   */
  readonly create?: (options: Record<string, unknown>, context: HandlerContext) => Handler | TickingHandler;
}
