/**
 * React: orders the workers off a path that is gone, in the same turn of the event loop in which the coordinator learns of
 * it. Nothing here waits. Coordinator thread only.
 */
import type { Reason } from '../memory/journal.ts';
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import { attempt, type PortState } from './port-state.ts';
import { type Slot, unusable } from './slot.ts';

const NO_LINKS: ReadonlySet<number> = new Set();

/**
 * Why an open path has to be left; undefined if it is fine.
 *
 * @param gone ifindexes that disappeared since the last check
 * @param downed ifindexes that went down since then
 */
export function failureOf(
  { network }: PortState,
  slot: Slot,
  gone = NO_LINKS,
  downed = NO_LINKS,
): Reason | undefined {
  if (gone.has(slot.key)) return 'link gone';
  if (downed.has(slot.key)) return 'link down';
  const endpoint = network.endpoint(slot.path);
  if (endpoint === undefined) return 'link gone';
  if (endpoint.key !== slot.key) return 'device replaced';
  return unusable(slot.path, endpoint);
}

/** Orders the workers off a path, now. The reconcile loop then closes it. */
export function react(state: PortState, slot: Slot, reason: Reason, detected = nowNanos()): void {
  const { ownership, network, slots } = state;
  slot.broken = reason;
  if (!ownership.isAttached(slot.path)) return;
  // Whatever fails here, the order follows: frames of a path that workers still poll must not be reclaimed.
  attempt(state, 'querying a link', () => {
    // A device may be up again before its message is read.
    const stopped = reason === 'link gone' || (reason === 'link down' && network.runs?.(slot.path) === false);
    if (stopped) slot.device!.stopped?.();
  });
  // A path that the port leaves by choice still delivers: it is disarmed first and drained then. A path that is left for
  // any other reason delivers nothing any more, and nothing may delay the order.
  if (reason === 'close' || reason === 'device replaced')
    attempt(state, 'disarming', () => slot.device!.disarm());
  const other = slots.find(
    ({ path, ready, broken }) => path !== slot.path && path !== Path.HOST && ready && broken === undefined,
  );
  const { owner } = ownership;
  const next = owner === slot.path ? (other?.path ?? Path.NONE) : owner;
  void ownership.detach(slot.path, next, reason, detected);
}

export const isLinkLoss = (reason: Reason | undefined): boolean =>
  reason === 'link down' || reason === 'carrier lost';

/** Whether a VF is open, or being opened, and does not serve: what happens to its link is not reported then. */
export const waitsForLink = ({ path, ready }: Slot): boolean => path === Path.VF && !ready;
