/** Thread entry of the supervisor. */
import { parentPort, workerData } from 'node:worker_threads';
import { endLoading } from '../src/coordinator/loading.ts';
import type { Command, GroupData } from '../src/coordinator/messages.ts';
import { Supervisor } from '../src/coordinator/supervisor.ts';
import { Memory } from '../src/memory/shared.ts';

const parent = parentPort!;
const data = workerData as GroupData;
const supervisor = new Supervisor(data, (report, transfer) => parent.postMessage(report, transfer));
parent.on('message', (command: Command) => supervisor.execute(command));
void supervisor.run().finally(() => parent.close());
endLoading(Memory.attach(data.shared), data.loaded); // NB: once it has begun the coordinator's
