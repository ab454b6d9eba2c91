/** Thread entry: sends numbered traffic into a lab. See src/lab/sender.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type SenderConfig, send } from '../src/lab/sender.ts';

send(workerData as SenderConfig, (message) => parentPort?.postMessage(message));
