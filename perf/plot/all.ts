/** Every plot for which a run has the rows, by file name without the extension. */
import type { Row, Sample } from '../row.ts';
import type { Line, Run } from '../verdict.ts';
import { failoverPlot } from './failover.ts';
import { goalsPlot } from './goals.ts';
import { scalingPlot } from './scaling.ts';

export interface Drawn {
  readonly shown: readonly { readonly row: Row; readonly lines: readonly Line[] }[];
  readonly runs: Readonly<Record<string, readonly Run[]>>;
}

export function plots({ shown, runs }: Drawn): Record<string, string> {
  const last = (row: string, side: string): Sample | undefined =>
    runs[row]?.findLast((run) => run.side === side && run.sample !== undefined)?.sample;
  const failover = last('failover', 'port');
  const [memory, veth] = [last('scaling', 'memory'), last('scaling', 'veth')];
  return {
    goals: goalsPlot(shown.flatMap(({ lines }) => lines)),
    ...(failover && { failover: failoverPlot(failover) }),
    ...(memory && veth && { scaling: scalingPlot({ memory, veth }) }),
  };
}
