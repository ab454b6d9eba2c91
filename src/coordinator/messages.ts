/**
 * What the application's thread and the coordinator say to each other. Plain data: it crosses threads.
 * Nothing here is per packet; statistics are read from the shared memory without asking anybody.
 */
import type { ErrorCode, ErrorDetails } from '../errors.ts';
import type { Failover } from '../memory/journal.ts';
import type { PathName, SharedMemory } from '../memory/layout.ts';
import type { Settings } from '../options.ts';
import type { PathDescription } from '../paths/path.ts';

/** The coordinator thread's `workerData`. */
export interface CoordinatorData {
  readonly shared: SharedMemory;
  readonly settings: Settings;
}

export type PlainError = { code: ErrorCode } & ErrorDetails;

/** What a port turned out to be. */
export interface PortDescription {
  /** Name of the NetVSC. */
  readonly device: string;
  readonly mac: string;
  readonly paths: Partial<Record<PathName, PathDescription>>;
}

/** A link of the port came, went, or changed its name. */
export interface LinkNews {
  readonly port: number;
  readonly path: PathName;
  readonly device: string;
  readonly state: 'up' | 'down' | 'gone' | 'failed';
  readonly detail?: string;
}

/** A worker thread started, or died and is replaced. */
export interface WorkerNews {
  readonly queue: number;
  readonly state: 'started' | 'died';
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
  | { kind: 'closed' };

export type Order =
  | { kind: 'close' }
  /** Asks every worker where its frames are; the answers lie in the worker blocks. */
  | { kind: 'audit'; id: number }
  /** Memory network only: a device appears, or goes. */
  | { kind: 'plug'; port: number; path: MemoryPath; name: string }
  | { kind: 'unplug'; port: number; path: MemoryPath }
  /** Spreads the flows of a port over these queues. */
  | { kind: 'redirect'; port: number; queues: readonly number[] };

/** A path that a memory network can have. */
export type MemoryPath = Exclude<PathName, 'none'>;
