/** What a packet leaves behind in a worker's heap, over millions of them through the whole port. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort } from '../../src/index.ts';
import type { Garbage } from '../handlers/circulate.ts';
import type { Row, Sample } from '../row.ts';
import { CIRCULATING } from './circulation.ts';

/** V8 has compiled everything after these. */
const WARM = 30_000_000;
const MOST_MILLIS = 60_000;
const PER_SECOND = 50_000_000;
/** None by a packet: what there is comes with time, as the handler's ticks do. An object has 16 bytes at least. */
const MOST_PER_MILLION = 1000;

async function port(seconds: number): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), 'twinpath-garbage-'));
  const file = join(folder, 'garbage.json');
  const measured = seconds * PER_SECOND;
  const opened = await openPort({
    ...{ network: 'loop', queues: 1, mode: 'poll' },
    handler: new URL(`../handlers/circulate${import.meta.url.slice(-3)}`, import.meta.url),
    handlerOptions: { packets: CIRCULATING, bytes: 60, warm: WARM, measured, file },
  });
  try {
    opened.plug('vf');
    const deadline = Date.now() + MOST_MILLIS;
    while (!existsSync(file)) {
      if (Date.now() > deadline) throw new Error(`${measured} packets took more than a minute`);
      await sleep(50);
    }
    await sleep(50); // it is written at once, but not to be read half
    const { packets, allocated, collections, longestPause } = JSON.parse(
      readFileSync(file, 'utf8'),
    ) as Garbage;
    return { bytes: allocated / packets, perMillion: (allocated / packets) * 1e6, collections, longestPause };
  } finally {
    await opened.close();
    rmSync(folder, { recursive: true });
  }
}

export const row: Row = {
  name: 'garbage',
  about: 'what V8 allocates and collects in a worker, packets circulating through the whole port',
  sides: { port: ({ seconds }) => port(seconds) },
  comparisons: [
    {
      name: 'garbage',
      about: 'bytes allocated per million packets: one object for each burst of them would be 250,000',
      ...{ ours: 'port.perMillion', unit: 'bytes', better: 'lower', goal: MOST_PER_MILLION },
    },
    {
      name: 'garbage:collections',
      about: 'garbage collections meanwhile',
      ...{ ours: 'port.collections', unit: 'collections', better: 'lower', goal: 0 },
    },
    {
      name: 'garbage:pause',
      about: 'the longest of them',
      ...{ ours: 'port.longestPause', unit: 'µs', better: 'lower', goal: 0 },
    },
  ],
  full: { runs: 3, seconds: 2 },
  quick: { runs: 2, seconds: 0.5 },
};
