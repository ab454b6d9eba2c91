/** The rows, in the order in which they are measured and shown. Each is a file in rows/ that exports `row`. */
import type { Row } from './row.ts';

export const ROWS = [
  'ring',
  'failsafe-tax',
  'veth',
  'tap',
  'port',
  'fallback',
  'failover',
  'tcp',
  'tcp-failover',
  'handoff',
  'latency',
  'scaling',
  'handler',
  'kernels',
  'garbage',
  'idle',
  'start',
  'node-libs',
  'soak',
] as const;

/** Tests run the sources. */
const extension = import.meta.url.slice(-3);

export async function loadRow(name: string): Promise<Row> {
  const { row } = (await import(new URL(`./rows/${name}${extension}`, import.meta.url).href)) as { row: Row };
  return row;
}
