/**
 * Reads a port's metrics over and over, as Prometheus does: `metrics-reader.js URL PAUSE_MS`. Prints the bytes of each answer, and
 * fails at one that is none.
 */
import { setTimeout as sleep } from 'node:timers/promises';

const [url = '', pause = '1000'] = process.argv.slice(2);
for (;;) {
  const response = await fetch(url);
  const text = await response.text();
  if (!response.ok || !text.includes('twinpath_')) throw new Error(`${url}: ${response.status}`);
  process.stdout.write(`${text.length}\n`);
  if (Number(pause) > 0) await sleep(Number(pause));
}
