/** What the programs in this folder share. */
import { cpus, release } from 'node:os';

/** The machine behind a number, as every program prints it. */
export const machine = (): string =>
  `${cpus().length} × ${cpus()[0]?.model}, Linux ${release()}, Node ${process.version}`;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
