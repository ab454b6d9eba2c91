/** What a managed port knows of one of its paths. */
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
  /** Key of the endpoint the device was made for. */
  key: number;
  /** Open, armed, and to be used. If it is open and is not: it waits for its link, or is being opened or closed. */
  ready: boolean;
  /** Why it must be closed; undefined while it is fine. */
  broken: Reason | undefined;
  /** Of the kick that failed; 0 if none has. */
  errno: number;
  /** Somebody has changed settings of its device. */
  unsettled: boolean;
  failures: number;
  /** When it was opened last. */
  openedAt: number;
  /** Key of the device that cannot be opened while its link is down: it is when that comes. */
  late: number;
  /** When opening this device first failed; 0 if it has not. */
  failingSince: number;
  retryAt: number;
  retry: NodeJS.Timeout | undefined;
  readonly drops: KernelDrops;
  /** The last error told, so that a path that keeps failing tells each reason once. */
  told: string;
}

export function newSlot(memory: Memory, port: number, path: PathId): Slot {
  return {
    path,
    device: undefined,
    key: 0,
    ready: false,
    broken: undefined,
    errno: 0,
    unsettled: false,
    failures: 0,
    openedAt: 0,
    late: 0,
    failingSince: 0,
    retryAt: 0,
    retry: undefined,
    drops: new KernelDrops(memory, port, path),
    told: '',
  };
}

/**
 * Why a device that is there cannot serve. The synthetic path and the host's serve without carrier too: nothing else
 * would serve better, and what its tap has queued should not be lost for a blink of the host.
 */
export function unusable(path: PathId, { up, carrier }: Endpoint): Reason | undefined {
  if (!up) return 'link down';
  return carrier || path !== Path.VF ? undefined : 'carrier lost';
}

/** Pauses before a path is tried again, in ms; the last one repeats. */
const RETRY_MILLIS = [50, 100, 250, 500, 1000, 2000];

/** After so many failures in a row, from 0. */
export const pauseBeforeRetry = (failures: number): number =>
  RETRY_MILLIS[Math.min(failures, RETRY_MILLIS.length - 1)]!;
