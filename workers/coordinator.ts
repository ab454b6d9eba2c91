/** Thread entry of the coordinator. */
import { parentPort, workerData } from 'node:worker_threads';
import { Coordinator } from '../src/coordinator/coordinator.ts';
import { endLoading } from '../src/coordinator/loading.ts';
import type { CoordinatorData, ToCoordinator } from '../src/coordinator/messages.ts';
import { Memory } from '../src/memory/shared.ts';

const parent = parentPort!;
const data = workerData as CoordinatorData;
const coordinator = new Coordinator(data, parent);
parent.on('message', (message: ToCoordinator) => coordinator.receive(message));
endLoading(Memory.attach(data.shared), data.loaded);
coordinator.start();
