/** What the workload says, found among what profilers print on the same stream. Pure. */

/** The load flows. */
export interface Started {
  readonly kind: 'started';
  readonly pid: number;
}

/** The load has ended. */
export interface Ended {
  readonly kind: 'ended';
  readonly seconds: number;
  /** That the port sent back. */
  readonly packets: number;
}

export type Message = Started | Ended;

/** Whole lines only: the last one may still be growing. */
export function messagesIn(output: string): readonly Message[] {
  return output
    .split('\n')
    .slice(0, -1)
    .filter((line) => line.startsWith('{"kind":'))
    .map((line) => JSON.parse(line) as Message);
}
