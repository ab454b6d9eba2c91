/** The events of a port, and an EventEmitter whose types know no other names. */
import { EventEmitter } from 'node:events';
import type { LinkNews, WorkerNews } from './coordinator/messages.ts';
import type { TwinpathError } from './errors.ts';
import type { Failover } from './memory/journal.ts';

/** Events come on the thread that opened the port, after the fact: a failover never waits for them. */
interface PortEvents {
  /** A queue has changed the path it transmits on: one event for each queue. */
  path: [Failover];
  /** A device of the port came, went, or could not be used. */
  link: [LinkNews];
  /** A worker thread started, died and is being replaced, or one without the handler serves its queue. */
  worker: [WorkerNews];
  /** Something failed that the port lives on without, and will try again. Unheard, it becomes a warning. */
  error: [TwinpathError];
  /** Everything has been let go of. */
  close: [];
}

type Listener<Name extends keyof PortEvents> = (...values: PortEvents[Name]) => void;

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
interface NamedMethods<Event extends keyof PortEvents> extends Omit<EventEmitter, MethodName> {
  addListener<Name extends Event>(event: Name, listener: Listener<Name>): this;
  emit<Name extends Event>(event: Name, ...values: PortEvents[Name]): boolean;
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
  'path' | 'link' | 'worker' | 'error' | 'close'
>;
