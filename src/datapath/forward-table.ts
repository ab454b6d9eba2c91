/** Where packets may be forwarded to from a port. Types only: relay.ts makes relays, dispatch.ts uses them. */
import type { CopySender } from '../memory/copies.ts';

/** A port's own end of the way in from other ports, as they see it: a Dispatch. */
export interface ForwardPort {
  /** A packet that has come to this port from another one. */
  accept(offset: number, length: number): void;
  /** A copy that has come from a port of another memory. */
  acceptCopy(at: number, length: number): void;
}

/** Ports that packets may be forwarded to, by number: of this memory, then of others. */
export interface ForwardTable {
  /** This worker's dispatch of a port of the same memory. */
  readonly ports: readonly ForwardPort[];
  /** Relays to ports of other memories: the first is number `ports.length`. */
  readonly relays: readonly Relay[];
}

/** Copies to a port of another memory. */
export interface Relay {
  readonly sender: CopySender;
  /** Number of the port there. */
  readonly port: number;
  /** False once those ports are closed. */
  readonly open: boolean;
  /** Wakes the receiver if copies were made. */
  flush(): void;
  /** Gives the relay up; another memory's worker may go on in it. */
  close(): void;
}
