/**
 * Messages between the threads of the application, the supervisor and the coordinator. Plain data: it crosses threads. No
 * message is per packet, and statistics need none: every thread reads them from the shared memory.
 *
 * The application sends commands, which the supervisor forwards to the coordinator. Reports go the other way.
 */
import type { MessagePort } from 'node:worker_threads';
import type { CheckedChange, PortConfiguration } from '../configuration.ts';
import type { PlainError } from '../errors.ts';
import type { LinkState } from '../kernel/device-information.ts';
import type { MailLine, Options } from '../mailbox/mail.ts';
import type { SharedMemory } from '../memory/geometry.ts';
import type { PathName } from '../memory/layout.ts';
import type { OpenPaths, ReportedEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import type { Completion } from './completion.ts';
import type { PathNotice, PathOrder } from './path-orders.ts';
import type { WorkerConfiguration } from './queue-spread.ts';

/** `workerData` of the supervisor's thread. */
export interface GroupData {
  readonly shared: SharedMemory;
  readonly settings: Settings;
  /** See loading.ts. */
  readonly loaded: Completion;
}

/** `workerData` of the coordinator's thread. */
export interface CoordinatorData extends GroupData {
  /** Whether it replaces one that died: it then resumes from that one's checkpoint. */
  readonly resume: boolean;
}

/** The devices of a port. */
export interface PortDescription {
  /** Name of the NetVSC. */
  readonly device: string;
  /** The open paths, by name. */
  readonly paths: OpenPaths;
  /** The state of the port's link. */
  readonly link: LinkState;
  readonly configuration: PortConfiguration;
}

/** From the application to the supervisor. */
export type Command =
  | { kind: 'close' }
  /** The process exits. It waits a moment until the coordinator's thread may be terminated. */
  | { kind: 'exit'; done: Completion }
  /** The control thread sends commands by this line, and gets the reports too. Its questions have negative numbers. */
  | { kind: 'attach'; line: MessagePort }
  /** A command with an answer. `id` is unique in the group. */
  | { kind: 'ask'; id: number; question: Question | HandlerQuestion }
  /** Memory network only: a device appears, or disappears. */
  | { kind: 'plug'; port: number; path: MemoryPath; name: string }
  | { kind: 'unplug'; port: number; path: MemoryPath };

/** What the application asks of the coordinator, and waits for. */
export type Question =
  /** Asks every worker where its frames are. The answers are in the worker blocks. */
  | { kind: 'audit' }
  /** What the port is and can do. Answered by a PortInformation. */
  | { kind: 'information'; port: number }
  /** What its devices count. Answered by CounterReadings. */
  | { kind: 'counters'; port: number }
  /** Answered by the counters of a port's rules, or undefined. */
  | { kind: 'count rules'; port: number }
  /** Leaves the VF of each port, or lets it be used again. */
  | { kind: 'set aside'; aside: boolean }
  /** Changes the configuration of a port. Answered by the configuration then. */
  | { kind: 'configure'; port: number; change: CheckedChange };

/** The supervisor's own: changes options of a port's handler. Answered by all of them then. */
export interface HandlerQuestion {
  readonly kind: 'handler options';
  readonly port: number;
  readonly change: Options;
}

/** A path that a memory network can have. */
export type MemoryPath = Exclude<PathName, 'none'>;

/** Commands that the supervisor forwards. */
export type CoordinatorCommand =
  | Exclude<Command, { kind: 'exit' | 'attach' | 'ask' }>
  | { kind: 'ask'; id: number; question: Question };

/** From the supervisor to the application. */
export type Report =
  | ReportedEvent
  | { kind: 'ready'; ports: PortDescription[] }
  /** The ports could not be opened, and everything was undone. */
  | { kind: 'failed'; error: PlainError }
  /** The answer to a question: a value, which only the one who asked knows, or an error. */
  | { kind: 'answered'; id: number; value?: unknown; error?: PlainError }
  /** The application's end of the line to a worker's handlers. Not for the control thread. */
  | { kind: 'line'; line: MailLine }
  /** All resources are released. */
  | { kind: 'closed' };

/** From the coordinator to the supervisor, which forwards most of it. */
export type FromCoordinator =
  | Exclude<Report, { kind: 'closed' | 'line' }>
  /** The devices are chosen: workers may start. */
  | { kind: 'devices chosen' }
  /** A command has been executed. A coordinator that replaces this one gets all other commands again. */
  | { kind: 'executed'; id: number }
  | OrderMessage
  | SpreadMessage;

/** From the coordinator: what the workers of a port are to carry out of its configuration. Answered as an order. */
export interface SpreadMessage {
  readonly kind: 'spread';
  readonly id: number;
  readonly port: number;
  readonly wanted: WorkerConfiguration;
}

/** An order to the workers of a port. Each order of a coordinator has its own number. */
export interface OrderMessage {
  readonly kind: 'order';
  readonly id: number;
  readonly port: number;
  readonly order: PathOrder;
}

/** From the supervisor to the coordinator. */
export type ToCoordinator =
  | { kind: 'execute'; id: number; command: CoordinatorCommand }
  /** The thread is about to be terminated: it stops waiting for descriptors, and then completes `done`. */
  | { kind: 'exit'; done: Completion }
  /** Every worker polls. */
  | { kind: 'workers started' }
  /** The workers have carried out that order, and every earlier one; or they see that configuration. */
  | { kind: 'ordered'; id: number }
  | PathNotice;
