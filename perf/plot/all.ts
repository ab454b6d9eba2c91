/** Every plot for which a run has the rows, by file name without the extension. */
import type { Row, Sample } from '../row.ts';
import { median } from '../statistics.ts';
import type { Line, Run } from '../verdict.ts';
import { failoverPlot } from './failover.ts';
import { goalsPlot } from './goals.ts';
import { scalingPlot } from './scaling.ts';

export interface Drawn {
  readonly shown: readonly { readonly row: Row; readonly lines: readonly Line[] }[];
  readonly runs: Readonly<Record<string, readonly Run[]>>;
}

export function plots({ shown, runs }: Drawn): Record<string, string> {
  const middle = (row: string, side: string): Sample | undefined =>
    medians((runs[row] ?? []).flatMap((run) => (run.side === side && run.sample ? [run.sample] : [])));
  const failover = middle('failover', 'port');
  const [memory, veth] = [middle('scaling', 'memory'), middle('scaling', 'veth')];
  return {
    goals: goalsPlot(shown.flatMap(({ lines }) => lines)),
    ...(failover && { failover: failoverPlot(failover) }),
    ...(memory && veth && { scaling: scalingPlot({ memory, veth }) }),
  };
}

/** Of each figure the median over the runs. Undefined of none. */
function medians(samples: readonly Sample[]): Sample | undefined {
  const [first] = samples;
  if (first === undefined) return undefined;
  return Object.fromEntries(
    Object.keys(first).map((figure) => [figure, median(samples.map((sample) => sample[figure]!))]),
  );
}
