/**
 * The events of a port: the types that an application gets, their form between threads, and an EventEmitter that knows
 * these names only.
 *
 * The thread that notices something makes the event. The threads between it and the application pass it on as it is.
 */
import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import type { PortConfiguration } from './configuration.ts';
import { type PlainError, plainError, type TwinpathError } from './errors.ts';
import type { CounterReadings } from './kernel/device-counters.ts';
import type { LinkState } from './kernel/device-information.ts';
import type { Failover } from './memory/journal.ts';
import type { PathName } from './memory/layout.ts';
import type { PathDescription } from './paths/device.ts';

/**
 * A device of the port appeared, disappeared, failed to open, or changed its name, MAC address or MTU. Or the VF transmits
 * and receives nothing: it is bypassed.
 */
export interface LinkEvent {
  /** Number of the port, in the order the ports were opened. */
  readonly port: number;
  /** The path that uses the device. */
  readonly path: PathName;
  /** Name of the network device. */
  readonly device: string;
  /** 'failed': the device exists and could not be opened; the port tries again. */
  readonly state: 'up' | 'down' | 'gone' | 'failed' | 'changed' | 'bypassed';
  /** Details for people. */
  readonly detail?: string;
}

/** The port's link came up, was lost, or has another speed. */
export interface CarrierEvent extends LinkState {
  /** Number of the port, in the order the ports were opened. */
  readonly port: number;
  /** The path that the port transmits on; 'none' without one. */
  readonly path: PathName;
  /** Name of its network device; the NetVSC's without one. */
  readonly device: string;
}

/**
 * A worker thread started, or died and is being replaced. 'fallback': a thread without the handler serves the queue, and
 * other queues have its flows until a worker with the handler has started.
 */
export interface WorkerEvent {
  /** The worker's queue. */
  readonly queue: number;
  /** What happened to the worker. */
  readonly state: 'started' | 'died' | 'fallback';
  /** Details for people. */
  readonly detail?: string;
}

/** What the platform does to this machine: it concerns all ports. With the option `maintenance`. */
export interface MaintenanceEvent {
  /** The platform's own name for it. */
  readonly id: string;
  /** 'Freeze' pauses the machine for seconds; the others end it, or start it again. */
  readonly kind: 'Freeze' | 'Reboot' | 'Redeploy' | 'Preempt' | 'Terminate';
  /** 'scheduled': also when its time changes. 'over': it is done, or was cancelled. */
  readonly state: 'scheduled' | 'started' | 'over';
  /** Milliseconds since 1970 before which it does not start; undefined if it has started, or may at any time. */
  readonly notBefore: number | undefined;
  /** How long the machine is expected to be away; undefined if the platform does not say. */
  readonly seconds: number | undefined;
  /** Details for people. */
  readonly description: string;
  /** Who wants it. */
  readonly source: 'platform' | 'user';
}

/** What the devices of a port count. */
export interface Counted {
  readonly port: number;
  readonly readings: CounterReadings;
}

/** The open paths, by name. */
export type OpenPaths = Partial<Record<PathName, PathDescription>>;

/** The configuration that a port has now. */
export interface Configured {
  readonly port: number;
  readonly configuration: PortConfiguration;
}

/** An event between threads. One with a port's number is for that port, one without is for all ports opened together. */
export type ReportedEvent =
  | { readonly kind: 'path'; readonly event: Failover }
  /** With the paths that are open then. */
  | { readonly kind: 'link'; readonly event: LinkEvent; readonly paths: OpenPaths }
  | { readonly kind: 'carrier'; readonly event: CarrierEvent }
  | { readonly kind: 'worker'; readonly event: WorkerEvent }
  /** The configuration of a port has changed. The application gets no event: it, or the administrator, has changed it. */
  | { readonly kind: 'configured'; readonly event: Configured }
  | { readonly kind: 'maintenance'; readonly event: MaintenanceEvent }
  /** The last reading of a device before it leaves. */
  | { readonly kind: 'counted'; readonly event: Counted }
  /** In its plain form. */
  | { readonly kind: 'error'; readonly event: PlainError; readonly port?: number };

/** The 'error' event of any exception. @param port absent if it concerns all ports opened together */
export function errorEvent(error: unknown, port?: number): ReportedEvent {
  return { kind: 'error', event: plainError(error), port };
}

/** Events are emitted on the thread that opened the port, after the fact: a failover never waits for them. */
interface PortEventMap {
  /** A queue has changed the path it transmits on: one event for each queue. */
  path: [Failover];
  /** A device of the port appeared, disappeared, changed, or could not be used. */
  link: [LinkEvent];
  /** The port's link came up, was lost, or has another speed: one event for each change of `port.link`. */
  carrier: [CarrierEvent];
  /** A worker thread started, died and is being replaced, or one without the handler serves its queue. */
  worker: [WorkerEvent];
  /** The platform is about to pause or end this machine, or has done so: with the option `maintenance`. */
  maintenance: [MaintenanceEvent];
  /** A handler has called `context.postMessage`, on that queue. Ports that have one handler together have its messages each. */
  message: [value: unknown, queue: number];
  /** Something failed; the port goes on without it and tries again. Without a listener it becomes a process warning. */
  error: [TwinpathError];
  /** All resources are released. */
  close: [];
}

type Listener<Name extends keyof PortEventMap> = (...values: PortEventMap[Name]) => void;

type MethodName =
  | 'addListener'
  | 'emit'
  | 'listenerCount'
  | 'listeners'
  | 'off'
  | 'on'
  | 'once'
  | 'prependListener'
  | 'prependOnceListener'
  | 'rawListeners'
  | 'removeAllListeners'
  | 'removeListener';

/**
 * Methods of EventEmitter that take the name of an event. Those of @types/node take any name.
 * The names are a type parameter, since the compiler then lists them in its message about a misspelt one.
 */
interface NamedMethods<Event extends keyof PortEventMap> extends Omit<EventEmitter, MethodName> {
  addListener<Name extends Event>(event: Name, listener: Listener<Name>): this;
  emit<Name extends Event>(event: Name, ...values: PortEventMap[Name]): boolean;
  listenerCount(event: Event): number;
  listeners<Name extends Event>(event: Name): Listener<Name>[];
  off<Name extends Event>(event: Name, listener: Listener<Name>): this;
  on<Name extends Event>(event: Name, listener: Listener<Name>): this;
  once<Name extends Event>(event: Name, listener: Listener<Name>): this;
  prependListener<Name extends Event>(event: Name, listener: Listener<Name>): this;
  prependOnceListener<Name extends Event>(event: Name, listener: Listener<Name>): this;
  rawListeners<Name extends Event>(event: Name): Listener<Name>[];
  removeAllListeners(event?: Event): this;
  removeListener<Name extends Event>(event: Name, listener: Listener<Name>): this;
}

/** EventEmitter, for these events and no others. */
export const PortEmitter = EventEmitter as unknown as new () => NamedMethods<
  'path' | 'link' | 'carrier' | 'worker' | 'maintenance' | 'message' | 'error' | 'close'
>;

/** Channels of node:diagnostics_channel, for programs that watch a process without its ports in hand. */
const CHANNELS = {
  path: channel('twinpath:failover'),
  link: channel('twinpath:link'),
  worker: channel('twinpath:worker'),
} as const;

/** Publishes an event with the device of its port. */
export function publish(kind: keyof typeof CHANNELS, device: string, event: object): void {
  const { [kind]: channel } = CHANNELS;
  if (channel.hasSubscribers) channel.publish({ device, event });
}
