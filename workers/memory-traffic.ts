/** Thread entry: numbered traffic into a port on the memory path. See src/lab/memory-sender.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type MemorySenderOrder, sendInMemory } from '../src/lab/memory-sender.ts';

sendInMemory(workerData as MemorySenderOrder, (message) => parentPort?.postMessage(message));
