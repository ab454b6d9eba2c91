/**
 * Closing one path. A VF whose link alone is down stays open, with new, empty queues. Coordinator thread only.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoName, TwinpathError } from '../errors.ts';
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import type { PathDevice } from '../paths/device.ts';
import { reconfigurePath } from './configure.ts';
import { reportLastReading } from './counter-readings.ts';
import type { PathOpener } from './open-path.ts';
import { attempt, type PortState, reportError, reportLink } from './port-state.ts';
import { failureOf, react } from './react.ts';
import { isLinkLoss, type Slot, unusable } from './slot.ts';

/** A path that fails after it was open for so long is opened again without a long pause. */
const STEADY_NANOS = 10e9;
/** The longest pause between two attempts to open queues again, in ms. */
const MAX_PAUSE_MILLIS = 256;

/** Closes a path that the workers have been ordered off, and has them reclaim its frames. */
export async function closePath(state: PortState, slot: Slot, opener: PathOpener): Promise<void> {
  const { ownership } = state;
  await ownership.settled();
  const device = slot.device!;
  const staysOpen = staysWhole(state, slot);
  attempt(state, 'reading counters', () => slot.drops.settle(device));
  if (!staysOpen) attempt(state, 'reading counters', () => reportLastReading(state, slot));
  slot.ready = false;
  attempt(state, 'closing a path', () => (staysOpen ? device.closeQueues!() : device.close())); // disarms
  await ownership.reclaim(slot.path);
  reportLink(state, slot, slot.broken === 'link gone' ? 'gone' : 'down', failureText(slot));
  slot.kickErrno = 0;
  if (staysOpen) {
    slot.broken = undefined;
    await renewQueues(state, slot, opener);
    return;
  }
  if (slot.broken === 'kick failed' || slot.broken === 'path failed') {
    if (nowNanos() - slot.openedAt >= STEADY_NANOS) slot.failures = 0;
    opener.retryLater(slot);
  }
  slot.device = undefined;
  slot.broken = undefined;
  state.save();
}

const failureText = ({ broken, kickErrno }: Slot): string =>
  kickErrno === 0 ? broken! : `${broken} (${errnoName(kickErrno)})`;

/**
 * Whether only the link is down, or the port is stopped: the device exists, and what is open of it can stay open meanwhile.
 */
function staysWhole(state: PortState, { path, broken, key, device }: Slot): boolean {
  if (state.closing || path !== Path.VF || device?.outlastsLink !== true) return false;
  if (broken === 'stopped') return true;
  if (!isLinkLoss(broken) && broken !== 'kick failed') return false;
  try {
    const now = state.network.query(path);
    return now?.key === key && (isLinkLoss(broken) || unusable(path, now) !== undefined);
  } catch (error) {
    reportError(state, error);
    return false; // closing it and opening it again is correct as well
  }
}

async function renewQueues(state: PortState, slot: Slot, opener: PathOpener): Promise<void> {
  try {
    await openQueues(slot.device!);
    reconfigurePath(state, slot); // it may have been left when that was changed
  } catch (error) {
    await opener.failed(slot, error);
    return;
  }
  const failure = failureOf(state, slot); // its message came meanwhile
  if (failure !== undefined && !isLinkLoss(failure)) react(state, slot, failure);
}

/** Opens queues that were closed just now: the kernel releases those in a work item (xp_put_pool). */
async function openQueues(device: PathDevice): Promise<void> {
  for (let pause = 2; ; pause *= 2) {
    try {
      return device.openQueues!();
    } catch (error) {
      const isBusy = error instanceof TwinpathError && error.code === 'ERR_DEVICE_BUSY';
      if (!isBusy || pause > MAX_PAUSE_MILLIS) throw error;
      device.closeQueues!();
      await sleep(pause);
    }
  }
}
