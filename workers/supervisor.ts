/** Thread entry of the supervisor. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Command, GroupData } from '../src/coordinator/messages.ts';
import { Supervisor } from '../src/coordinator/supervisor.ts';

const parent = parentPort!;
const supervisor = new Supervisor(workerData as GroupData, (report) => parent.postMessage(report));
parent.on('message', (command: Command) => supervisor.execute(command));
void supervisor.run().finally(() => parent.close());
