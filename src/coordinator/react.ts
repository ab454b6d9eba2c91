/**
 * The paths that the coordinator finds lost: those that the supervisor cannot know of (port-failover.ts), since that needs
 * pairing, a query, or a check of what a path has set up; and those that it has missed. Coordinator thread only.
 */
import type { Reason } from '../memory/journal.ts';
import { nowNanos } from '../memory/shared.ts';
import { attempt, type PortState } from './port-state.ts';
import { type Slot, unusable } from './slot.ts';

const BY_CHOICE: ReadonlySet<Reason> = new Set(['close', 'stopped', 'device replaced', 'maintenance']);
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

/**
 * Has the supervisor order the workers off a path. The reconcile loop then closes it. If the supervisor has left the path
 * already, the order changes nothing.
 */
export function react(state: PortState, slot: Slot, reason: Reason, detected = nowNanos()): void {
  const { ownership } = state;
  slot.broken = reason;
  if (!ownership.isAttached(slot.path)) return;
  // A path that the port leaves by choice still delivers: it is disarmed first and drained then. A path that is left for
  // any other reason delivers nothing any more, and nothing may delay the order.
  if (BY_CHOICE.has(reason)) attempt(state, 'disarming', () => slot.device!.disarm());
  void ownership.detach(slot.path, reason, detected);
}
