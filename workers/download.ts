/** Thread entry: runs one end of a download through a lab. See src/lab/download-ends.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type EndConfig, runEnd } from '../src/lab/download-ends.ts';

const parent = parentPort!;
runEnd(workerData as EndConfig, {
  post: (message) => parent.postMessage(message),
  onStop: (stop) => parent.once('message', stop),
});
