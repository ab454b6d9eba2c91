/** The throughput of several workers: threads that count, a port on the memory path, ports at the ends of a veth pair. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { openPort, openPorts, type Port } from '../../src/index.ts';
import { pageSize } from '../../src/kernel/machine.ts';
import { geometryOf } from '../../src/settings.ts';
import { waitFor, withNamespace } from './lab.ts';

export interface Throughput {
  /** Million packets (or steps) a second, of all workers together. */
  readonly millions: number;
  /** CPUs that the process had meanwhile; fewer than workers: other processes took them. */
  readonly cpus: number;
}

const HANDLER = new URL('./circulate-handler.js', import.meta.url);
/** Of each queue: some bursts, which fit its rings. */
const CIRCULATING = 512;
const FRAMES = 4096;
const WARM_MILLIS = 250;
/** Until packets circulate. */
const START_MILLIS = 5000;

export async function spin(threads: number, seconds: number): Promise<Throughput> {
  const file = new URL('./spin.js', import.meta.url);
  const arrivals = new Int32Array(new SharedArrayBuffer(4));
  const answers = await Promise.all(
    Array.from({ length: threads }, async (_, cpu) => {
      const workerData = { cpu, millis: seconds * 1000, arrivals, threads };
      const [answer] = await once(new Worker(file, { workerData }), 'message');
      return answer as { perSecond: number; cpus: number };
    }),
  );
  const sum = answers.reduce((all, { perSecond }) => all + perSecond, 0);
  return { millions: sum / 1e6, cpus: Math.max(...answers.map(({ cpus }) => cpus)) };
}

/** One port of `queues` queues, of which the first `loaded` have packets. Only our own code runs. */
export async function memoryPath(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const geometry = geometryOf({ ports: [{}], queues, frameSize: 2048, frames: FRAMES }, pageSize());
  const handlerOptions = { loaded, packets: CIRCULATING, geometry };
  const options = { handler: HANDLER, handlerOptions, queues, frames: FRAMES, pin: true };
  const port = await openPort({ network: 'memory', ...options });
  try {
    return await measure([port], loaded, seconds);
  } finally {
    await port.close();
  }
}

/**
 * Two ports, each with one end of a veth pair as its VF: worker i has queue i of both ends, and what it sends on one arrives
 * on the other. A device that carries nothing stands for the NetVSC.
 */
export function vethPair(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const macs = ['02:15:5d:79:00:01', '02:15:5d:79:00:02'];
  const wide = `numtxqueues ${queues} numrxqueues ${queues}`;
  const lines = [
    `link add vf0 address ${macs[0]} ${wide} type veth peer name vf1 address ${macs[1]} ${wide}`,
    ...macs.map((mac, i) => `link add eth${i} address ${mac} type veth peer name idle${i}`),
    ...['eth0', 'idle0', 'vf0', 'eth1', 'idle1', 'vf1'].map((device) => `link set ${device} up`),
  ];
  return withNamespace(lines, async (netns) => {
    const handlerOptions = { loaded, packets: CIRCULATING };
    const options = { handler: HANDLER, handlerOptions, queues, frames: FRAMES, pin: true };
    const pairs = ['eth0', 'eth1'].map((netvsc) => ({ netvsc, force: true }));
    const ports = await openPorts({ ports: pairs, netns, host: 'off', ...options });
    try {
      return await measure(ports, loaded, seconds);
    } finally {
      await ports[0]!.close();
    }
  });
}

/** @throws Error if a queue that should have packets has none, or another one has */
async function measure(ports: readonly Port[], loaded: number, seconds: number): Promise<Throughput> {
  const receivedBy = (port: Port, queue: number): number => {
    const { vf, synthetic } = port.stats().queues[queue]!.paths;
    return vf.rxPackets + synthetic.rxPackets;
  };
  const received = (): number[] =>
    ports[0]!.stats().queues.map((_, queue) => ports.reduce((sum, port) => sum + receivedBy(port, queue), 0));
  const circulate = (): boolean => received().every((count, queue) => queue >= loaded || count > CIRCULATING);
  await waitFor('packets that circulate', START_MILLIS, circulate);
  await sleep(WARM_MILLIS);
  const before = received();
  const cpu = process.cpuUsage();
  const began = performance.now();
  await sleep(seconds * 1000);
  const millis = performance.now() - began;
  const { user, system } = process.cpuUsage(cpu);
  const counts = received().map((count, queue) => count - before[queue]!);
  counts.forEach((count, queue) => {
    if (count > 0 !== queue < loaded)
      throw new Error(`queue ${queue} of ${loaded} with packets received ${count}`);
  });
  const sum = counts.reduce((all, count) => all + count, 0);
  return { millions: sum / millis / 1000, cpus: (user + system) / 1000 / millis };
}
