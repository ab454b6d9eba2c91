/** Records of queues as failovers of a port: its queues switch together. Pure. */
import type { Owner, QueueSwitch } from '../messages.ts';

export interface Switch {
  /** The same as long as it is shown. */
  readonly key: string;
  readonly from: Owner;
  readonly to: Owner;
  readonly reason: string;
  readonly detectedNanos: number;
  /** Of the slowest queue. */
  readonly endedNanos: number;
  readonly rescued: number;
  readonly drained: number;
  /** In the order of their numbers. */
  readonly queues: readonly QueueSwitch[];
}

/** Those of one port, oldest first. */
export function groupSwitches(records: readonly QueueSwitch[]): Switch[] {
  const groups = new Map<string, QueueSwitch[]>();
  for (const record of records) {
    const key = `${record.detectedNanos} ${record.from} ${record.to}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [record]);
    else group.push(record);
  }
  return [...groups].map(([key, group]) => {
    const queues = group.toSorted((a, b) => a.queue - b.queue);
    const { from, to, reason, detectedNanos } = queues[0]!;
    return {
      ...{ key, from, to, reason, detectedNanos, queues },
      endedNanos: Math.max(...queues.map(({ endedNanos }) => endedNanos)),
      rescued: queues.reduce((all, { rescued }) => all + rescued, 0),
      drained: queues.reduce((all, { drained }) => all + drained, 0),
    };
  });
}

/** Before that the port was not open. */
export const isStart = ({ reason }: { readonly reason: string }): boolean => reason === 'start';

/** Whether traffic moved from one path to another: the start and the end of a port are switches, and no failovers. */
export const isFailover = ({ from, to }: Switch): boolean => from !== 'none' && to !== 'none';

/** From the moment its cause was known until the slowest queue transmitted on the other path. */
export const durationOf = ({ detectedNanos, endedNanos }: Switch): number => endedNanos - detectedNanos;

/** A stage of a queue's switch, and what happens in it. */
export const STAGES = [
  { name: 'order', from: 'detectedNanos', to: 'orderedNanos', text: 'supervisor orders it' },
  { name: 'reach', from: 'orderedNanos', to: 'beganNanos', text: 'order reaches the worker' },
  { name: 'move', from: 'beganNanos', to: 'endedNanos', text: 'worker drains and moves packets' },
] as const;
