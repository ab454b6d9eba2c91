/** What so many workers do together: threads that count, a port on the memory path, ports at the ends of a veth pair. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { openPort, openPorts, type Port } from '../../src/index.ts';
import { pageSize } from '../../src/kernel/page-size.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { deleteNamespaces, freeLabName, ip, sysctl } from '../../src/lab/namespaces.ts';
import { geometryOf } from '../../src/options.ts';

export interface Throughput {
  /** Million packets (or steps) a second, of all workers together. */
  readonly millions: number;
  /** CPUs that the process was given meanwhile; fewer than workers: somebody else wanted them. */
  readonly cpus: number;
}

const HANDLER = new URL('./circulate.js', import.meta.url);
/** Of each queue: some bursts, well within its rings. */
const CIRCULATING = 512;
const WARM_MILLIS = 250;
const GOING_MILLIS = 5000;

export async function spin(threads: number, seconds: number): Promise<Throughput> {
  const file = new URL('./spin.js', import.meta.url);
  const arrivals = new Int32Array(new SharedArrayBuffer(4));
  const said = await Promise.all(
    Array.from({ length: threads }, async (_, cpu) => {
      const workerData = { cpu, millis: seconds * 1000, arrivals, threads };
      const [answer] = await once(new Worker(file, { workerData }), 'message');
      return answer as { perSecond: number; cpus: number };
    }),
  );
  return {
    millions: said.reduce((sum, { perSecond }) => sum + perSecond, 0) / 1e6,
    cpus: Math.max(...said.map(({ cpus }) => cpus)),
  };
}

/** One port of `queues` queues, of which the first `loaded` have packets. Nothing but our own code runs. */
export async function memoryPath(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const geometry = geometryOf({ ports: [{}], queues, frameSize: 2048, frames: 4096 }, pageSize());
  const port = await openPort({
    ...{ network: 'memory', handler: HANDLER, queues, frames: 4096, pin: true },
    handlerOptions: { loaded, packets: CIRCULATING, geometry },
  });
  try {
    return await measure([port], loaded, seconds);
  } finally {
    await port.close();
  }
}

/**
 * Two ports, each with one end of a veth pair as its VF: worker i has queue i of both ends, and what it sends on
 * the one arrives on the other. NetVSC is played by a device that carries nothing.
 */
export async function vethPair(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const namespace = `${freeLabName()}-guest`;
  ip([`netns add ${namespace}`]);
  try {
    // What the kernel sends of itself would circulate too.
    sysctl(loadShim(), namespace, 'ipv6/conf/default/disable_ipv6', '1');
    const macs = ['02:15:5d:79:00:01', '02:15:5d:79:00:02'];
    const wide = `numtxqueues ${queues} numrxqueues ${queues}`;
    ip(
      [
        `link add vf0 address ${macs[0]} ${wide} type veth peer name vf1 address ${macs[1]} ${wide}`,
        ...macs.flatMap((mac, i) => [
          `link add eth${i} address ${mac} type veth peer name idle${i}`,
          ...[`eth${i}`, `idle${i}`, `vf${i}`].map((device) => `link set ${device} up`),
        ]),
      ],
      namespace,
    );
    const ports = await openPorts({
      ports: [0, 1].map((i) => ({ netvsc: `eth${i}`, force: true })),
      ...{ netns: namespace, handler: HANDLER, queues, frames: 4096, pin: true, host: 'off' },
      handlerOptions: { loaded, packets: CIRCULATING },
    });
    try {
      return await measure(ports, loaded, seconds);
    } finally {
      await ports[0]!.close();
    }
  } finally {
    deleteNamespaces([namespace]);
  }
}

/** @throws Error if a queue that should have packets has none, or another has */
async function measure(ports: readonly Port[], loaded: number, seconds: number): Promise<Throughput> {
  const received = (): number[] =>
    ports[0]!.stats().queues.map((_, queue) =>
      ports.reduce((sum, port) => {
        const { vf, synthetic } = port.stats().queues[queue]!.paths;
        return sum + vf.rxPackets + synthetic.rxPackets;
      }, 0),
    );
  const deadline = performance.now() + GOING_MILLIS;
  const goes = (): boolean => received().every((count, queue) => queue >= loaded || count > CIRCULATING);
  while (!goes() && performance.now() < deadline) await sleep(5);
  await sleep(WARM_MILLIS);
  const before = received();
  const cpu = process.cpuUsage();
  const began = performance.now();
  await sleep(seconds * 1000);
  const millis = performance.now() - began;
  const used = process.cpuUsage(cpu);
  const counts = received().map((count, queue) => count - before[queue]!);
  counts.forEach((count, queue) => {
    if (count > 0 !== queue < loaded)
      throw new Error(`queue ${queue} received ${count} packets, ${loaded} have any`);
  });
  return {
    millions: counts.reduce((a, b) => a + b, 0) / millis / 1000,
    cpus: (used.user + used.system) / 1000 / millis,
  };
}
