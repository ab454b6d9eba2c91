/** The state of one path of a managed port. */
import type { TwinpathError } from '../errors.ts';
import type { Reason } from '../memory/journal.ts';
import { Path, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { PathDevice } from '../paths/device.ts';
import { KernelDrops } from './kernel-drops.ts';
import type { Endpoint } from './network.ts';

/** One path of the port. */
export interface Slot {
  readonly path: PathId;
  device: PathDevice | undefined;
  /** Key of the endpoint that the device was made for. */
  key: number;
  /** Open, armed and in use. A path that is open and not ready waits for its link, or is being opened or closed. */
  ready: boolean;
  /** Why it must be closed; undefined while it is fine. */
  broken: Reason | undefined;
  /** Errno of the kick that failed; 0 if none has. */
  kickErrno: number;
  /** A program has changed settings of its device. */
  settingsChanged: boolean;
  failures: number;
  /** When it was opened last. */
  openedAt: number;
  /** Key of the device that cannot be opened while its link is down. */
  needsLink: number;
  /** When opening this device first failed; 0 if it has not. */
  failingSince: number;
  retryAt: number;
  retry: NodeJS.Timeout | undefined;
  /** What of the port's configuration its device has refused. */
  refusals: readonly TwinpathError[];
  readonly drops: KernelDrops;
  /** The last error that was reported: a path that keeps failing reports each reason once. */
  reported: string;
}

export function newSlot(memory: Memory, port: number, path: PathId): Slot {
  return {
    path,
    device: undefined,
    key: 0,
    ready: false,
    broken: undefined,
    kickErrno: 0,
    settingsChanged: false,
    failures: 0,
    openedAt: 0,
    needsLink: 0,
    failingSince: 0,
    retryAt: 0,
    retry: undefined,
    refusals: [],
    drops: new KernelDrops(memory, port, path),
    reported: '',
  };
}

/**
 * Why a device that exists cannot serve. The synthetic path and the host path serve without carrier too: no other path
 * would serve better, and what the tap has queued should not be lost when the host's link is away for a moment.
 */
export function unusable(path: PathId, { up, carrier }: Endpoint): Reason | undefined {
  if (!up) return 'link down';
  return carrier || path !== Path.VF ? undefined : 'carrier lost';
}

/** Pauses before a path is tried again, in ms; the last one repeats. */
const RETRY_MILLIS = [50, 100, 250, 500, 1000, 2000];

/** The pause after so many failures in a row, from 0. */
export const pauseBeforeRetry = (failures: number): number =>
  RETRY_MILLIS[Math.min(failures, RETRY_MILLIS.length - 1)]!;
