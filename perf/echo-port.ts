/**
 * A port that echoes, in a process of its own: see echo-process.ts. Arguments: namespace, NetVSC, address, queues,
 * frames of a queue. Answers every message with what {@link Told} says; closes the port when its parent disconnects.
 */
import { openPort } from '../src/index.ts';

/** What the process tells of itself. */
export interface Told {
  /** JavaScript's, of the main thread. */
  readonly heapBytes: number;
  readonly owners: readonly string[];
  /** Frames that no place accounts for. */
  readonly framesMissing: number;
}

const [netns, netvsc, address, queues, frames] = process.argv.slice(2);
const port = await openPort({
  ...{ netns, netvsc, force: true, queues: Number(queues), frames: Number(frames), pin: true },
  handler: new URL('../src/handlers/echo.js', import.meta.url),
  handlerOptions: { address },
});
process.on('message', async () => {
  const ledgers = await port.audit();
  const told: Told = {
    heapBytes: process.memoryUsage().heapUsed,
    owners: port.stats().queues.map(({ owner }) => owner),
    framesMissing: ledgers.reduce((sum, one) => sum + one.total - one.accounted + one.duplicates, 0),
  };
  process.send?.(told);
});
process.once('disconnect', () => void port.close());
