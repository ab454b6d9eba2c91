/** Thread entry of the coordinator. */
import { parentPort, workerData } from 'node:worker_threads';
import { Coordinator } from '../src/coordinator/coordinator.ts';
import type { CoordinatorData, ToCoordinator } from '../src/coordinator/messages.ts';

const parent = parentPort!;
const coordinator = new Coordinator(workerData as CoordinatorData, parent);
parent.on('message', (message: ToCoordinator) => coordinator.receive(message));
coordinator.start();
