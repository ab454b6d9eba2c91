/** What an application writes: a module that each queue worker imports. */
import type { Burst } from './burst.ts';

/**
 * Called with every burst, on the queue's own thread. Set `burst.verdict[i]` for each packet that
 * should not be dropped. May not keep the burst or its packets. An exception drops the packet that
 * was looked at last and is counted; the packets after it are offered again.
 */
export type Handler = (burst: Burst) => void;

/** What a handler may know about where it runs. */
export interface HandlerContext {
  /** This worker's queue, from 0. */
  readonly queue: number;
  /** Queues, and so workers, of the port. */
  readonly queues: number;
  /** MAC address of each port, six bytes each. */
  readonly macs: readonly Uint8Array[];
}

/**
 * A handler module's default export is a {@link Handler}; or it exports `create`, which is called
 * once in each worker with the port's `handlerOptions`.
 */
export interface HandlerModule {
  readonly default?: Handler;
  readonly create?: (options: Record<string, unknown>, context: HandlerContext) => Handler;
}
