/**
 * Packets a second that reach JavaScript, from a device that receives as many as one core can make.
 *
 * A C program on the last core gives 60-byte frames to a device as its driver would (rigs/flood.ts). The kernel's work up to the
 * receiver's ring or socket runs there too; the receiver's thread has the first core. Without a receiver a frame takes the sender
 * a little over 50 ns, so the sender does not limit.
 *
 * `handler`: our port, a handler in the worker. `sleeping`: the same in mode 'interrupt', which does not spin, so its CPU time is
 * the cost of the packets. `application`: our port, `bursts()` hands every packet to the application's thread, which shares the
 * sender's core; the sender gives way to it (rigs/flood.ts). `pcap`: node_pcap's 'packet' event. `recvmmsg`: an AF_PACKET socket, 64 packets a call, over koffi. Each receiver
 * reads the packets' EtherType.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort, type Port } from '../../src/index.ts';
import {
  type Counts,
  counting,
  type FloodedDevice,
  flooded,
  type Received,
  receiver,
  WARM_MILLIS,
} from '../rigs/flood.ts';
import { type Benchmark, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';

type Mode = 'adaptive' | 'interrupt';

/** One queue, pinned to the first core; nothing is passed to the kernel. */
async function withPort<T>(
  { namespace, netvsc, begin }: FloodedDevice,
  mode: Mode,
  kind: 'count' | 'deliver',
  work: (port: Port) => Promise<T>,
): Promise<T> {
  const handler = new URL('../rigs/handlers.js', import.meta.url);
  const where = { netns: namespace, netvsc, force: true, queues: 1, pin: true, host: 'off' } as const;
  const port = await openPort({ ...where, mode, handler, handlerOptions: { kind } });
  try {
    begin();
    return await work(port);
  } finally {
    await port.close();
  }
}

/**
 * Million packets a second; the same for each second of the receiver's CPU time; nanoseconds that a packet costs both cores,
 * without those that it costs to make it; packets that were dropped for lack of room, in percent.
 */
async function rates(receive: (device: FloodedDevice) => Promise<Received>): Promise<Sample> {
  const { received, madeAlone } = await flooded(receive);
  const { packets, millis, cpuMillis, dropped } = received;
  return {
    mpps: packets / millis / 1000,
    core: packets / cpuMillis / 1000,
    nanos: (1e6 * (millis + cpuMillis)) / packets - 1e9 / madeAlone,
    lost: (100 * dropped) / (packets + dropped),
  };
}

/** What the worker's handler, and the kernel for lack of room, have dropped. */
function handled(port: Port): Counts {
  const { dropped, paths } = port.stats();
  const { rxRingFull, rxFillEmpty } = paths.vf.kernel;
  return [dropped.verdict, rxRingFull + rxFillEmpty];
}

const handler =
  (mode: Mode): Variant =>
  ({ seconds }) =>
    rates((device) =>
      withPort(device, mode, 'count', async (port) => {
        await sleep(WARM_MILLIS);
        const received = counting(handled(port));
        await sleep(seconds * 1000);
        return received(handled(port));
      }),
    );

const application: Variant = ({ seconds }) =>
  rates((device) =>
    withPort(device, 'adaptive', 'deliver', async (port) => {
      const types = new Float64Array(65_536);
      let packets = 0;
      let received: ReturnType<typeof counting> | undefined;
      const counts = (): Counts => [packets, port.stats().dropped.deliverFull];
      const start = performance.now() + WARM_MILLIS;
      for await (const { length, offset, view } of port.bursts()) {
        for (let i = 0; i < length; i++) types[view.getUint16(offset[i]! + 12)]!++;
        packets += length;
        const now = performance.now();
        if (now >= start) received ??= counting(counts());
        if (now >= start + seconds * 1000) break;
      }
      return received!(counts());
    }),
  );

const peer =
  (name: 'pcap' | 'recvmmsg'): Variant =>
  ({ seconds }) =>
    rates((device) => receiver(name, device, seconds));

export const nodeLibs: Benchmark = {
  name: 'node-libs',
  about:
    'packets a second that reach JavaScript, from a device that is given frames at its XDP hook by the other core',
  variants: {
    handler: handler('adaptive'),
    pcap: peer('pcap'),
    application,
    recvmmsg: peer('recvmmsg'),
    sleeping: handler('interrupt'),
  },
  comparisons: comparisons(`
    node-libs             | handler.mpps / pcap.mpps     | Mpps | ≥ 5 | a handler in the worker; peer: node_pcap
    node-libs:recvmmsg    | handler.mpps / recvmmsg.mpps | Mpps |     | a handler in the worker; peer: AF_PACKET with recvmmsg over koffi
    node-libs:application | application.mpps / pcap.mpps | Mpps | ≥ 2 | delivered to the application’s thread; peer: node_pcap
    node-libs:cost        | sleeping.nanos / pcap.nanos  | ns   |     | CPU time of a packet from the XDP hook to a handler in a worker that sleeps; peer: node_pcap
    node-libs:core        | sleeping.core / pcap.core    | Mpps |     | for each second of CPU time that the receiver itself takes: the same; peer: node_pcap
    node-libs:lost        | handler.lost                 | %    |     | packets that found no room in the worker’s ring
    node-libs:pcap-lost   | pcap.lost                    | %    |     | packets that found no room in node_pcap’s ring
  `),
  full: { runs: 4, seconds: 1.5 },
  quick: { runs: 1, seconds: 1 },
};
