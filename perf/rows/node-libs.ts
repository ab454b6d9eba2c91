/**
 * Packets a second that reach JavaScript, of a sender that sends all it can.
 *
 * The kernel's work for a packet, up to the receiver's ring or socket, is done on the sender's core, and limits the
 * rate before most receivers do: so there is also the rate for a second of the receiver's own CPU time. For that, a worker
 * of `sleeping` sleeps whenever it finds nothing (mode 'interrupt'), lest its polling count as work.
 *
 * A C program sends 60-byte UDP over a veth pair from the last core; the receiver's thread is pinned to the first.
 * `handler`: our port, the count handler in the worker. `application`: our port, every packet handed to the
 * application's thread by `batches()`, as a buffer of its own; that thread has the sender's core, so two share it.
 * `pcap`: node_pcap's 'packet' event. `recvmmsg`: an AF_PACKET socket read 64 packets a call, over koffi. Each looks
 * at the packets' EtherType.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort, type Port } from '../../src/index.ts';
import { counting, flooded, type Received, receiver, type Veth, WARM_MILLIS } from '../receive/veth.ts';
import type { Row, Sample, Side } from '../row.ts';

/** One queue, pinned to the first core; nothing is passed on to the kernel. */
async function withPort<T>(
  { namespace, netvsc }: Veth,
  mode: 'adaptive' | 'interrupt',
  handler: string,
  work: (port: Port) => Promise<T>,
): Promise<T> {
  const port = await openPort({
    ...{ netns: namespace, netvsc, force: true, queues: 1, pin: true, host: 'off', mode },
    handler: new URL(handler, import.meta.url),
    ...(handler.endsWith('count.js') ? { handlerOptions: { every: 0, top: 0 } } : {}),
  });
  try {
    return await work(port);
  } finally {
    await port.close();
  }
}

/** Million packets a second; the same of a second of the receiver's CPU time; what the sender's device took. */
async function rates(seconds: number, receive: (veth: Veth) => Promise<Received>): Promise<Sample> {
  const { received, offered } = await flooded(seconds, receive);
  const { packets, millis, cpuMillis } = received;
  return { mpps: packets / millis / 1000, core: packets / cpuMillis / 1000, offered: offered / 1e6 };
}

const handler =
  (mode: 'adaptive' | 'interrupt'): Side =>
  ({ seconds }) =>
    rates(seconds, (veth) =>
      withPort(veth, mode, '../../src/handlers/count.js', async (port) => {
        await sleep(WARM_MILLIS);
        const received = counting(port.stats().dropped.verdict);
        await sleep(seconds * 1000);
        return received(port.stats().dropped.verdict);
      }),
    );

const application: Side = ({ seconds }) =>
  rates(seconds, (veth) =>
    withPort(veth, 'adaptive', '../receive/deliver.js', async (port) => {
      const types = new Float64Array(65_536);
      let packets = 0;
      let received: ReturnType<typeof counting> | undefined;
      const start = performance.now() + WARM_MILLIS;
      for await (const batch of port.batches()) {
        for (const { data } of batch) types[data.readUInt16BE(12)]!++;
        packets += batch.length;
        const now = performance.now();
        if (now >= start) received ??= counting(packets);
        if (now >= start + seconds * 1000) break;
      }
      return received!(packets);
    }),
  );

const peer =
  (name: 'pcap' | 'recvmmsg'): Side =>
  ({ seconds }) =>
    rates(seconds, (veth) => receiver(name, veth, seconds));

const compared = { unit: 'Mpps', better: 'higher' } as const;

export const row: Row = {
  name: 'node-libs',
  about: 'packets a second that reach JavaScript, of a C program that floods a veth pair from the other core',
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
      name: 'node-libs:core',
      about:
        'for each second of CPU time that the receiver takes: a handler in a worker that sleeps; beside node_pcap',
      ...{ ours: 'sleeping.core', peer: 'pcap.core', ...compared },
    },
    {
      name: 'node-libs:received',
      about: 'a handler in the worker; beside what the sender’s device took',
      ...{ ours: 'handler.mpps', peer: 'handler.offered', ...compared },
    },
  ],
  full: { runs: 4, seconds: 1.5 },
  quick: { runs: 1, seconds: 1 },
};
