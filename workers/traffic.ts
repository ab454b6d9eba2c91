/** Thread entry: numbered traffic into a lab. See src/lab/sender.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type SenderOrder, send } from '../src/lab/sender.ts';

send(workerData as SenderOrder, (message) => parentPort?.postMessage(message));
