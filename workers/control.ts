/** Thread entry of the control socket. It ends when the supervisor does. */
import { parentPort, workerData } from 'node:worker_threads';
import { ControlLine } from '../src/control/control-line.ts';
import type { ControlData, ControlReport } from '../src/control/control-thread.ts';
import { endLoading } from '../src/coordinator/loading.ts';
import { Memory } from '../src/memory/shared.ts';

const parent = parentPort!;
const data = workerData as ControlData;
const line = new ControlLine(data);
endLoading(Memory.attach(data.shared), data.loaded);
line.run((report: ControlReport) => parent.postMessage(report));
