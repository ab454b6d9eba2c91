/** Thread entry: sends numbered traffic into a port on the memory path. See src/lab/memory-outside.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type MemorySenderConfig, sendInMemory } from '../src/lab/memory-outside.ts';

sendInMemory(workerData as MemorySenderConfig, (message) => parentPort?.postMessage(message));
