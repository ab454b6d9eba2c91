/** Which path a queue transmitted on, and when. Pure. */
import type { Owner, QueueSwitch } from '../messages.ts';
import { isStart } from './switches.ts';

export interface Span {
  readonly fromNanos: number;
  readonly toNanos: number;
  readonly owner: Owner;
}

/**
 * What owned a queue between two times, without gaps from the moment that the port was opened.
 *
 * @param records of that queue, oldest first; it changes hands when a switch has ended
 * @param owner now: what it was all along without a record
 */
export function ownerSpans(
  records: readonly QueueSwitch[],
  fromNanos: number,
  toNanos: number,
  owner: Owner,
): Span[] {
  const spans: Span[] = [];
  const add = (from: number, to: number, of: Owner | undefined): void => {
    const [start, end] = [Math.max(from, fromNanos), Math.min(to, toNanos)];
    if (of !== undefined && end > start) spans.push({ fromNanos: start, toNanos: end, owner: of });
  };
  const [first] = records;
  let at = Number.NEGATIVE_INFINITY;
  let present = first === undefined ? owner : isStart(first) ? undefined : first.from;
  for (const { endedNanos, to } of records) {
    add(at, endedNanos, present);
    [at, present] = [endedNanos, to];
  }
  add(at, Number.POSITIVE_INFINITY, present);
  return spans;
}
