/** The rows, in the order in which they are measured and shown. Each is a file in rows/ that exports `row`. */
import type { Row } from './row.ts';

export const ROWS = ['handoff'] as const;

export async function loadRow(name: string): Promise<Row> {
  const { row } = (await import(new URL(`./rows/${name}.js`, import.meta.url).href)) as { row: Row };
  return row;
}
