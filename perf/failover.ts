/**
 * How long a failover takes, and what it loses: the VF of a lab taken away and given back under load.
 *
 *     node dist/perf/failover.js [--cycles 50] [--queues 2] [--mode adaptive|poll] [--rate 20000] [--json]
 *
 * Prints, for each direction, the distribution over all cycles and queues of
 * - detect: from just before the kernel is called until the coordinator knows (away from the VF only),
 * - switch: from there until a queue's worker transmits on the other path,
 * and the packet ledger of the whole run. Needs root. The figures are those of the machine it runs on.
 */
import { parseArgs } from 'node:util';
import { type Failover, openPort } from '../src/index.ts';
import { Lab } from '../src/lab/host.ts';
import { Traffic } from '../src/lab/traffic.ts';
import { machine } from './measure.ts';

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '50' },
    queues: { type: 'string', default: '2' },
    mode: { type: 'string', default: 'adaptive' },
    rate: { type: 'string', default: '20000' },
    json: { type: 'boolean', default: false },
  },
});

const pause = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis));

async function until(what: string, done: () => boolean): Promise<void> {
  for (let tries = 0; !done(); tries++) {
    if (tries > 2000) throw new Error(`${what} did not happen within ten seconds`);
    await pause(5);
  }
}

function distribution(micros: number[]): { median: number; p99: number; max: number } {
  const sorted = micros.toSorted((a, b) => a - b);
  const at = (q: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0);
  return { median: at(0.5), p99: at(0.99), max: at(1) };
}

const queues = Number(values.queues);
const lab = await Lab.create({ queues });
try {
  const { nic } = lab;
  const port = await openPort({
    netns: lab.guest,
    netvsc: nic.netvsc,
    force: true,
    queues,
    mode: values.mode as 'adaptive',
    handler: new URL('../src/handlers/echo.js', import.meta.url),
    handlerOptions: { address: nic.guestAddress },
  });
  const owned = (by: string) => () => port.stats().queues.every(({ owner }) => owner === by);
  const traffic = await Traffic.start(lab, nic, { rate: Number(values.rate) });
  for (let cycle = 1; cycle <= Number(values.cycles); cycle++) {
    await nic.plug();
    await until('the switch to the VF', owned('vf'));
    await nic.moveDataPath('vf');
    await pause(100);
    await nic.unplug();
    await until('the switch to the synthetic path', owned('synthetic'));
    await pause(50);
    process.stderr.write(`\r${cycle} of ${values.cycles} cycles`);
  }
  process.stderr.write('\n');
  const { packets } = await traffic.stop();
  const failovers = port.failovers();
  await port.close();

  const downs = nic.events.filter(({ kind }) => kind === 'down').map(({ atNanos }) => atNanos);
  const detect = (failover: Failover): number =>
    failover.detectedNanos - Math.max(...downs.filter((at) => at <= failover.detectedNanos));
  const away = failovers.filter(({ from }) => from === 'vf');
  const back = failovers.filter(({ to, from }) => to === 'vf' && from === 'synthetic');
  const result = {
    machine: machine(),
    cycles: Number(values.cycles),
    queues,
    packets,
    detectMicros: distribution(away.map((failover) => detect(failover) / 1000)),
    awayMicros: distribution(
      away.map(({ detectedNanos, endedNanos }) => (endedNanos - detectedNanos) / 1000),
    ),
    backMicros: distribution(
      back.map(({ detectedNanos, endedNanos }) => (endedNanos - detectedNanos) / 1000),
    ),
    rescued: away.reduce((sum, { rescued }) => sum + rescued, 0),
    drained: away.reduce((sum, { drained }) => sum + drained, 0),
  };
  process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`);
  process.exitCode = packets.lost + packets.duplicated + packets.reordered === 0 ? 0 : 1;
} finally {
  await lab.close();
}
