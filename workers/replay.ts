/** Thread entry: plays a capture file into ports in memory. See src/replay/thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { complete } from '../src/coordinator/completion.ts';
import type { ReplayData } from '../src/replay/messages.ts';
import { runReplay } from '../src/replay/thread.ts';

const parent = parentPort!;
const data = workerData as ReplayData;
complete(data.loaded);
runReplay(data, {
  post: (message) => parent.postMessage(message),
  onPlay: (play) => parent.once('message', play),
});
