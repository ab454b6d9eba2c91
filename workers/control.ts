/** Thread entry of the control socket. It ends when the supervisor does. */
import { parentPort, workerData } from 'node:worker_threads';
import { ControlLine } from '../src/control/control-line.ts';
import type { ControlData, ControlReport } from '../src/control/control-thread.ts';

const parent = parentPort!;
new ControlLine(workerData as ControlData).run((report: ControlReport) => parent.postMessage(report));
