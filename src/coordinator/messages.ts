/**
 * What the application's thread, the supervisor and the coordinator say to each other. Plain data: it crosses threads.
 * Nothing here is per packet; statistics are read from the shared memory without asking anybody.
 *
 * Orders go from the application through the supervisor to the coordinator, reports the other way.
 */
import { type ErrorCode, type ErrorDetails, TwinpathError } from '../errors.ts';
import type { SharedMemory } from '../memory/geometry.ts';
import type { Failover } from '../memory/journal.ts';
import type { PathName } from '../memory/layout.ts';
import type { Settings } from '../options.ts';
import type { PathDescription } from '../paths/device.ts';
import type { Latch } from './latch.ts';

/** The supervisor thread's `workerData`. */
export interface GroupData {
  readonly shared: SharedMemory;
  readonly settings: Settings;
}

/** The coordinator thread's. */
export interface CoordinatorData extends GroupData {
  /** Whether it follows one that has died: it goes on from that one's checkpoint. */
  readonly resume: boolean;
}

export type PlainError = { code: ErrorCode } & ErrorDetails;

/** Any exception as it crosses threads: one that is no TwinpathError is a fault of ours. */
export function plain(error: unknown): PlainError {
  if (error instanceof TwinpathError) return error.toJSON();
  return { code: 'ERR_WORKER', detail: error instanceof Error ? error.message : String(error) };
}

/** What a port turned out to be. */
export interface PortDescription {
  /** Name of the NetVSC. */
  readonly device: string;
  readonly paths: Partial<Record<PathName, PathDescription>>;
}

/**
 * A link of the port came, went, or is not what it was: its name, MAC address or MTU has changed. Or a VF that sends receives
 * nothing: it is bypassed.
 */
export interface LinkNews {
  readonly port: number;
  readonly path: PathName;
  readonly device: string;
  readonly state: 'up' | 'down' | 'gone' | 'failed' | 'changed' | 'bypassed';
  readonly detail?: string;
}

/**
 * A worker thread started, or died and is replaced; or one without the handler serves the queue meanwhile ('fallback'),
 * whose flows are with the other queues until a worker with the handler has started.
 */
export interface WorkerNews {
  readonly queue: number;
  readonly state: 'started' | 'died' | 'fallback';
  readonly detail?: string;
}

export type Report =
  | { kind: 'ready'; ports: PortDescription[] }
  | { kind: 'failed'; error: PlainError }
  | { kind: 'path'; failover: Failover; paths: PortDescription['paths'] }
  | { kind: 'link'; news: LinkNews; paths: PortDescription['paths'] }
  | { kind: 'worker'; news: WorkerNews }
  | { kind: 'error'; error: PlainError }
  | { kind: 'audited'; id: number }
  /** Everything has ended. With an error nobody had asked for it. */
  | { kind: 'closed'; error?: PlainError };

/** What the supervisor leaves to the coordinator. */
export type CoordinatorOrder = Exclude<Order, { kind: 'redirect' | 'exit' }>;

/** From the coordinator to the supervisor: what the application is to know, and what the supervisor is. */
export type Message =
  | Exclude<Report, { kind: 'closed' | 'worker' }>
  /** The devices are chosen: workers may start. */
  | { kind: 'chosen' }
  /** An order has been carried out. Until then a following coordinator is given it again. */
  | { kind: 'obeyed'; id: number };

/** From the supervisor to the coordinator. */
export type Instruction =
  | { kind: 'order'; id: number; order: CoordinatorOrder }
  /** The thread is about to be terminated: it is to stop waiting for descriptors, and to say so. */
  | { kind: 'exit'; done: Latch }
  /** Every worker polls. */
  | { kind: 'workers started' }
  /** The queue's worker is gone and, since the ports are closing, none will follow. */
  | { kind: 'left'; queue: number };

export type Order =
  | { kind: 'close' }
  /** The process exits, and waits a moment until the coordinator's thread may be ended. */
  | { kind: 'exit'; done: Latch }
  /** Asks every worker where its frames are; the answers lie in the worker blocks. */
  | { kind: 'audit'; id: number }
  /** Memory network only: a device appears, or goes. */
  | { kind: 'plug'; port: number; path: MemoryPath; name: string }
  | { kind: 'unplug'; port: number; path: MemoryPath }
  /** Spreads the flows of a port over these queues. */
  | { kind: 'redirect'; port: number; queues: readonly number[] };

/** A path that a memory network can have. */
export type MemoryPath = Exclude<PathName, 'none'>;
