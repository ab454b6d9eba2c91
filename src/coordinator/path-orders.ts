/**
 * What the coordinator and the supervisor's thread tell each other about the paths of a port. Plain data: it crosses threads.
 */
import type { Reason } from '../memory/journal.ts';
import type { PathId } from '../memory/layout.ts';

/**
 * From the coordinator. Each is answered when the workers have carried out every order so far. An order about a path that
 * the supervisor has left meanwhile changes nothing, and is answered all the same.
 */
export type PathOrder =
  /** The workers poll one more path. `key` is the ifindex of its device; a device in memory has a number of its own. */
  | { kind: 'attach'; path: PathId; key: number }
  /** The path is armed: it is left when it loses its link, and may become the owner when another one is left. */
  | { kind: 'ready'; path: PathId }
  /** The workers transmit on that path. NONE: on none. */
  | { kind: 'own'; path: PathId; reason: Reason; detectedNanos: number }
  /** The workers leave the path. */
  | { kind: 'detach'; path: PathId; reason: Reason; detectedNanos: number }
  /** The workers take back the frames of a path whose kernel objects are closed. */
  | { kind: 'reclaim'; path: PathId }
  | { kind: 'settle' };

/** A path that the workers were ordered off, and whose frames they have not reclaimed yet. */
export interface LeftPath {
  readonly port: number;
  readonly path: PathId;
  readonly reason: Reason;
  /** Errno of the kick that failed; 0 if none has. */
  readonly kickErrno: number;
}

/** From the supervisor. */
export type PathNotice =
  /** The supervisor has ordered the workers off a path by itself: it is to be closed. */
  | ({ kind: 'left' } & LeftPath)
  /** A worker doubts that a path of the port has a link, and asking for it may take long. */
  | { kind: 'doubted'; port: number };
