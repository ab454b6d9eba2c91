/**
 * `node dist/perf/vf-return.js`: how long a port takes from a VF's plugging in until all its queues send by it, by the
 * number of queues. Veths; as root. The ratio to one queue is what a queue more costs.
 */
import { Lab } from '../src/lab/host.ts';
import { openEchoPort, ownedBy, unplug } from './echo-lab.ts';
import { holdMachine } from './machine-lock.ts';
import { median } from './statistics.ts';

const QUEUES = [1, 4, 16];
const TIMES = 5;

async function millisOf(queues: number): Promise<number> {
  const lab = await Lab.create({ queues });
  try {
    const port = await openEchoPort(lab, { queues, pin: false, mode: 'interrupt' });
    const took: number[] = [];
    for (let time = 0; time < TIMES; time++) {
      const began = performance.now();
      await lab.nic.plug();
      await ownedBy(port, 'vf');
      took.push(performance.now() - began);
      await unplug(lab, port);
    }
    await port.close();
    return median(took);
  } finally {
    await lab.close();
  }
}

const lock = await holdMachine();
let one = 0;
for (const queues of QUEUES) {
  const millis = await millisOf(queues);
  one ||= millis;
  console.log(`${queues} queues: ${millis.toFixed(1)} ms, ${(millis / one).toFixed(1)} × one queue`);
}
lock.close();
