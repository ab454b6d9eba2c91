/** What changes from one answer of the metadata service to the next, and whether the VF is to be left. Pure. */
import type { MaintenanceEvent } from '../port-events.ts';
import type { ScheduledEvent } from './scheduled-events.ts';

/** The VF is left so long before a freeze: the change takes milliseconds, and the poll a second. */
const LEAD_MILLIS = 10_000;

export class Notices {
  readonly #known = new Map<string, ScheduledEvent>();

  /** Events that are new, have started, have another time, or are over. */
  update(events: readonly ScheduledEvent[]): MaintenanceEvent[] {
    const news: MaintenanceEvent[] = [];
    const present = new Set(events.map(({ id }) => id));
    for (const [id, event] of this.#known) {
      if (present.has(id)) continue;
      this.#known.delete(id);
      news.push(reported(event, 'over'));
    }
    for (const event of events) {
      const known = this.#known.get(event.id);
      this.#known.set(event.id, event);
      if (known?.started === event.started && known.notBefore === event.notBefore) continue;
      news.push(reported(event, event.started ? 'started' : 'scheduled'));
    }
    return news;
  }

  /** Whether a freeze has started, or is about to. @param now milliseconds since 1970 */
  freezes(now: number): boolean {
    return [...this.#known.values()].some(
      ({ kind, notBefore }) => kind === 'Freeze' && (notBefore ?? 0) - LEAD_MILLIS <= now,
    );
  }
}

function reported(
  { id, kind, notBefore, seconds, description, source }: ScheduledEvent,
  state: MaintenanceEvent['state'],
): MaintenanceEvent {
  return { id, kind, state, notBefore, seconds, description, source };
}
