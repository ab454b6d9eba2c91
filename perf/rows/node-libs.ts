/**
 * Packets a second that reach JavaScript, of a device that receives all that one core can make.
 *
 * A C program on the last core gives 60-byte frames to a device as its driver would (receive/veth.ts). The kernel's work
 * for them, up to the receiver's ring or socket, is done there too, and the receiver's thread has the first core. A frame
 * costs the sender a good 50 ns when nobody receives it, so that it is not what limits.
 *
 * `handler`: our port, a handler in the worker. `sleeping`: the same in mode 'interrupt', which does not spin, so that its
 * CPU time is what the packets cost. `application`: our port, every packet handed to the application's thread by
 * `batches()`, as a buffer of its own; that thread has the sender's core, so two share it. `pcap`: node_pcap's 'packet'
 * event. `recvmmsg`: an AF_PACKET socket read 64 packets a call, over koffi. Each looks at the packets' EtherType.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort, type Port } from '../../src/index.ts';
import {
  type Counts,
  counting,
  flooded,
  type Received,
  receiver,
  type Veth,
  WARM_MILLIS,
} from '../receive/veth.ts';
import type { Row, Sample, Side } from '../row.ts';

/** One queue, pinned to the first core; nothing is passed on to the kernel. */
async function withPort<T>(
  { namespace, netvsc, begin }: Veth,
  mode: 'adaptive' | 'interrupt',
  handler: string,
  work: (port: Port) => Promise<T>,
): Promise<T> {
  const port = await openPort({
    ...{ netns: namespace, netvsc, force: true, queues: 1, pin: true, host: 'off', mode },
    handler: new URL(handler, import.meta.url),
  });
  try {
    begin();
    return await work(port);
  } finally {
    await port.close();
  }
}

/**
 * Million packets a second; the same of a second of the receiver's CPU time; nanoseconds that a packet costs both cores,
 * without those that it costs to make it; packets that were dropped for want of room, in percent.
 */
async function rates(seconds: number, receive: (veth: Veth) => Promise<Received>): Promise<Sample> {
  const { received, alone } = await flooded(seconds, receive);
  const { packets, millis, cpuMillis, dropped } = received;
  return {
    mpps: packets / millis / 1000,
    core: packets / cpuMillis / 1000,
    nanos: (1e6 * (millis + cpuMillis)) / packets - 1e9 / alone,
    lost: (100 * dropped) / (packets + dropped),
  };
}

/** What the worker's handler, or the kernel for want of room, has dropped. */
function handled(port: Port): Counts {
  const { dropped, paths } = port.stats();
  const { rxRingFull, rxFillEmpty } = paths.vf.kernel;
  return [dropped.verdict, rxRingFull + rxFillEmpty];
}

const handler =
  (mode: 'adaptive' | 'interrupt'): Side =>
  ({ seconds }) =>
    rates(seconds, (veth) =>
      withPort(veth, mode, '../receive/types.js', async (port) => {
        await sleep(WARM_MILLIS);
        const received = counting(handled(port));
        await sleep(seconds * 1000);
        return received(handled(port));
      }),
    );

const application: Side = ({ seconds }) =>
  rates(seconds, (veth) =>
    withPort(veth, 'adaptive', '../receive/deliver.js', async (port) => {
      const types = new Float64Array(65_536);
      let packets = 0;
      let received: ReturnType<typeof counting> | undefined;
      const counts = (): Counts => [packets, port.stats().dropped.deliverFull];
      const start = performance.now() + WARM_MILLIS;
      for await (const batch of port.batches()) {
        for (const { data } of batch) types[data.readUInt16BE(12)]!++;
        packets += batch.length;
        const now = performance.now();
        if (now >= start) received ??= counting(counts());
        if (now >= start + seconds * 1000) break;
      }
      return received!(counts());
    }),
  );

const peer =
  (name: 'pcap' | 'recvmmsg'): Side =>
  ({ seconds }) =>
    rates(seconds, (veth) => {
      veth.begin();
      return receiver(name, veth, seconds);
    });

const compared = { unit: 'Mpps', better: 'higher' } as const;

export const row: Row = {
  name: 'node-libs',
  about:
    'packets a second that reach JavaScript, of a device that is given frames at its XDP hook by the other core',
  sides: {
    handler: handler('adaptive'),
    pcap: peer('pcap'),
    application,
    recvmmsg: peer('recvmmsg'),
    sleeping: handler('interrupt'),
  },
  comparisons: [
    {
      name: 'node-libs',
      about: 'a handler in the worker; beside node_pcap',
      ...{ ours: 'handler.mpps', peer: 'pcap.mpps', goal: 5, ...compared },
    },
    {
      name: 'node-libs:recvmmsg',
      about: 'a handler in the worker; beside AF_PACKET with recvmmsg over koffi',
      ...{ ours: 'handler.mpps', peer: 'recvmmsg.mpps', ...compared },
    },
    {
      name: 'node-libs:application',
      about: 'delivered to the application’s thread; beside node_pcap',
      ...{ ours: 'application.mpps', peer: 'pcap.mpps', ...compared },
    },
    {
      name: 'node-libs:cost',
      about: 'CPU time of a packet from the XDP hook to a handler in a worker that sleeps; beside node_pcap',
      ...{ ours: 'sleeping.nanos', peer: 'pcap.nanos', unit: 'ns', better: 'lower' },
    },
    {
      name: 'node-libs:core',
      about: 'for each second of CPU time that the receiver itself takes: the same; beside node_pcap',
      ...{ ours: 'sleeping.core', peer: 'pcap.core', ...compared },
    },
    {
      name: 'node-libs:lost',
      about: 'packets that found no room in the worker’s ring',
      ...{ ours: 'handler.lost', unit: '%', better: 'lower' },
    },
    {
      name: 'node-libs:pcap-lost',
      about: 'packets that found no room in node_pcap’s ring',
      ...{ ours: 'pcap.lost', unit: '%', better: 'lower' },
    },
  ],
  full: { runs: 4, seconds: 1.5 },
  quick: { runs: 1, seconds: 1 },
};
