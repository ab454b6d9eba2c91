/**
 * Taps: one alone (`tap`), and the tap of a port whose VF is gone (`fallback`).
 *
 * `tap`: echo is a closed loop on one core. A BPF program sends packets that were written to the tap straight back to its reader;
 * 256 packets circulate, and the program that drives the tap exchanges their MAC addresses. So no generator limits the rate. The
 * way through the kernel is the same for all variants and part of every figure. For receiving, the tap's queue is filled while
 * its reader is preempted, and the time that the reader takes to empty it is measured, alone on the machine (peers/tap.c): no
 * generator is as fast as the readers. The kernel counts. The peers' taps have the kernel's default qdisc.
 *
 * `fallback`: the peer is testpmd with `net_tap` in the same lab. DPDK would connect that tap to the NetVSC with `remote=`, by tc
 * flower filters that redirect. Here the same BPF programs connect both taps: they are faster, and kernels without flower have
 * them too. Packets are made at the host's end of the NetVSC on the other core, at the pace of the tap's reader, and counted and
 * dropped there when they come back. For a reader that is faster than the generator, the figure and the ratio are lower bounds.
 */
import { openPort } from '../../src/index.ts';
import { TcRedirect } from '../../src/paths/tap/redirect.ts';
import { FIRST_CPU } from '../peers/program.ts';
import { Testpmd } from '../peers/testpmd.ts';
import { portOptions } from '../rigs/lab.ts';
import { TapWire, withLoneTap } from '../rigs/tap.ts';
import { type Benchmark, comparisons, type Variant } from '../runner/benchmark.ts';

/** Million packets a second, from a tap that something drives. */
type Measure = (wire: TapWire, name: string, seconds: number) => Promise<number>;
const echoed: Measure = (wire, name, seconds) => wire.echoed(name, seconds);
const received: Measure = (wire, name, seconds) => wire.received(name, seconds);

const PEER_TAP = 'peer0';

const ours =
  (handler: string, measure: Measure): Variant =>
  ({ seconds }) =>
    TapWire.around((wire) =>
      withLoneTap(wire, handler, async (name) => ({ mpps: await measure(wire, name, seconds) })),
    );

const testpmd =
  (forward: 'macswap' | 'rxonly', measure: Measure): Variant =>
  ({ seconds }) =>
    TapWire.around((wire) => {
      const options = {
        vdevs: [`net_tap0,iface=${PEER_TAP}`],
        forward,
        namespace: wire.lab.guest,
        core: FIRST_CPU,
      };
      return Testpmd.around(options, async () => ({ mpps: await measure(wire, PEER_TAP, seconds) }));
    });

const loopInC =
  (how: 'echo' | 'receive', measure: Measure): Variant =>
  ({ seconds }) =>
    TapWire.around(async (wire) => {
      wire.drive(PEER_TAP, how);
      return { mpps: await measure(wire, PEER_TAP, seconds) };
    });

export const tap: Benchmark = {
  name: 'tap',
  about: 'packets of 64 bytes through a tap, driven by one core: echo in a closed loop, and receive',
  variants: {
    echo: ours('reflect', echoed),
    testpmd: testpmd('macswap', echoed),
    c: loopInC('echo', echoed),
    receive: ours('drop', received),
    rxonly: testpmd('rxonly', received),
    read: loopInC('receive', received),
  },
  comparisons: comparisons(`
    tap           | echo.mpps / testpmd.mpps   | Mpps | ≥ 1.5 | packets read, changed and written back; peer: testpmd net_tap macswap
    tap:receive   | receive.mpps / rxonly.mpps | Mpps | ≥ 1.5 | packets read and dropped; peer: testpmd net_tap rxonly
    tap:echo-c    | echo.mpps / c.mpps         | Mpps | ≥ 1.3 | packets read, changed and written back; peer: a loop of reads and writes in C
    tap:receive-c | receive.mpps / read.mpps   | Mpps | ≥ 1.3 | packets read and dropped; peer: a loop of reads in C
  `),
  full: { runs: 4, seconds: 1 },
  quick: { runs: 1, seconds: 0.5 },
};

const port: Variant = ({ seconds }) =>
  TapWire.around(async (wire) => {
    const port = await openPort(portOptions(wire.lab, 'reflect.js', { mode: 'poll' }));
    try {
      const owner = port.stats().queues[0]?.owner;
      if (owner !== 'synthetic') throw new Error(`the queue is on ${owner}, not on the synthetic path`);
      return { mpps: await wire.reflected('twinpath0', seconds) };
    } finally {
      await port.close();
    }
  });

/** From testpmd's tap, which is connected to the NetVSC stand-in as ours is. */
const redirected: Measure = async (wire, name, seconds) => {
  const { netvsc: device } = wire.lab.nic;
  const [{ ifindex: tap }, { ifindex: netvsc }] = [await wire.tap(name), await wire.tap(device)];
  const redirect = new TcRedirect(wire.shim, wire.netlink, { netvsc, tap, device, kind: 'tcx' });
  wire.inside(() => redirect.attach());
  try {
    return await wire.reflected(name, seconds);
  } finally {
    redirect.release();
  }
};

export const fallback: Benchmark = {
  name: 'fallback',
  about: 'a port whose VF is gone, one queue, reflect; packets of 64 bytes made on the other core',
  variants: { port, testpmd: testpmd('macswap', redirected) },
  comparisons: comparisons(`
    fallback | port.mpps / testpmd.mpps | Mpps | ≥ 1.5 | packets back at the host; peer: testpmd net_tap macswap, connected to the NetVSC in the same way
  `),
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};
