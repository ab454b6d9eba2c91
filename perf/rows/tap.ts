/**
 * A tap alone, without a NetVSC behind it: its user's side.
 *
 * Echo is a closed loop on one core: a BPF program sends what is written to the tap straight back up, 256 packets
 * circulate, and whoever drives the tap exchanges their MAC addresses. Nobody generates, so nobody can be the
 * bottleneck but the one who is measured; the way through the kernel is the same for all, and in every figure.
 * For receiving, the tap's queue is filled while its reader is preempted, and what is timed is how fast the reader
 * empties it, alone on the machine (peers/tap-feed.c): no generator is as fast as the readers are.
 * All are counted by the kernel. The peers' taps have its default qdisc, as they come.
 */

import { withLoneTap } from '../lone-tap.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Row } from '../row.ts';
import { DRIVING_CPU, TapWire } from '../tap-wire.ts';

type Measure = (wire: TapWire, name: string, seconds: number) => Promise<number>;
const echoed: Measure = (wire, name, seconds) => wire.echoed(name, seconds);
const received: Measure = (wire, name, seconds) => wire.received(name, seconds);

export const row: Row = {
  name: 'tap',
  about: 'packets of 64 bytes through a tap, driven by one core: echo in a closed loop, and receive',
  sides: {
    echo: ({ seconds }) => ours('reflect', echoed, seconds),
    testpmd: ({ seconds }) => testpmd('macswap', echoed, seconds),
    c: ({ seconds }) => loopInC('echo', echoed, seconds),
    receive: ({ seconds }) => ours('drop', received, seconds),
    rxonly: ({ seconds }) => testpmd('rxonly', received, seconds),
    read: ({ seconds }) => loopInC('receive', received, seconds),
  },
  comparisons: [
    {
      name: 'tap',
      about: 'packets read, changed and written back; beside testpmd net_tap macswap',
      ...{ ours: 'echo.mpps', peer: 'testpmd.mpps', unit: 'Mpps', better: 'higher', goal: 1.5 },
    },
    {
      name: 'tap:receive',
      about: 'packets read and dropped; beside testpmd net_tap rxonly',
      ...{ ours: 'receive.mpps', peer: 'rxonly.mpps', unit: 'Mpps', better: 'higher', goal: 1.5 },
    },
    {
      name: 'tap:echo-c',
      about: 'packets read, changed and written back; beside a loop of reads and writes in C',
      ...{ ours: 'echo.mpps', peer: 'c.mpps', unit: 'Mpps', better: 'higher', goal: 1.3 },
    },
    {
      name: 'tap:receive-c',
      about: 'packets read and dropped; beside a loop of reads in C',
      ...{ ours: 'receive.mpps', peer: 'read.mpps', unit: 'Mpps', better: 'higher', goal: 1.3 },
    },
  ],
  full: { runs: 4, seconds: 1 },
  quick: { runs: 1, seconds: 0.5 },
};

function ours(handler: string, measure: Measure, seconds: number): Promise<{ mpps: number }> {
  return TapWire.around((wire) =>
    withLoneTap(wire, handler, async (name) => ({ mpps: await measure(wire, name, seconds) })),
  );
}

function testpmd(
  forward: 'macswap' | 'rxonly',
  measure: Measure,
  seconds: number,
): Promise<{ mpps: number }> {
  return TapWire.around(async (wire) => {
    const peer = await Testpmd.start({
      ...{ vdevs: ['net_tap0,iface=peer0'], forward, namespace: wire.lab.guest, core: DRIVING_CPU },
    });
    try {
      return { mpps: await measure(wire, 'peer0', seconds) };
    } finally {
      await peer.stop();
    }
  });
}

function loopInC(what: 'echo' | 'receive', measure: Measure, seconds: number): Promise<{ mpps: number }> {
  return TapWire.around(async (wire) => {
    wire.start('tap-echo', ['peer0', String(DRIVING_CPU), what]);
    return { mpps: await measure(wire, 'peer0', seconds) };
  });
}
