/**
 * A port that echoes, in a process of its own: for how long it takes to start, and what it weighs. Arguments:
 * namespace, NetVSC, address, queues, frames of a queue. Closes the port when its parent disconnects.
 */
import { openPort } from '../src/index.ts';

const [netns, netvsc, address, queues, frames] = process.argv.slice(2);
const port = await openPort({
  ...{ netns, netvsc, force: true, queues: Number(queues), frames: Number(frames) },
  handler: new URL('../src/handlers/echo.js', import.meta.url),
  handlerOptions: { address },
});
process.once('disconnect', () => void port.close());
