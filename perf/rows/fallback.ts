/**
 * A consolidated port whose VF is gone: what its one queue sends back by the synthetic path alone.
 *
 * The peer is testpmd with `net_tap` in the same lab. DPDK would tie that tap to the NetVSC with `remote=`, by tc
 * filters of flower that redirect; here both taps are tied by the same BPF programs, which are faster and which
 * kernels without flower have too. Packets are made at the host's end of the NetVSC on the other core, paced by
 * what the tap's reader takes, and counted and dropped there when they are back. A reader that is faster than they
 * can be made waits for them: then the figure, and the ratio, are what it does at least.
 */
import { openPort } from '../../src/index.ts';
import { Tie } from '../../src/paths/tap/tie.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Row, Sample } from '../row.ts';
import { DRIVING_CPU, TapWire } from '../tap-wire.ts';

export const row: Row = {
  name: 'fallback',
  about: 'a port whose VF is gone, one queue, reflect; packets of 64 bytes made on the other core',
  sides: {
    port: ({ seconds }) => TapWire.around((wire) => ours(wire, seconds)),
    testpmd: ({ seconds }) => TapWire.around((wire) => testpmd(wire, seconds)),
  },
  comparisons: [
    {
      name: 'fallback',
      about: 'packets back at the host; beside testpmd net_tap macswap, tied to the NetVSC in the same way',
      ...{ ours: 'port.mpps', peer: 'testpmd.mpps', unit: 'Mpps', better: 'higher', goal: 1.5 },
    },
  ],
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};

async function ours(wire: TapWire, seconds: number): Promise<Sample> {
  const port = await openPort({
    ...{
      netns: wire.lab.guest,
      netvsc: wire.lab.nic.netvsc,
      force: true,
      queues: 1,
      mode: 'poll',
      pin: true,
    },
    handler: new URL('../../src/handlers/reflect.js', import.meta.url),
  });
  try {
    const owner = port.stats().queues[0]?.owner;
    if (owner !== 'synthetic') throw new Error(`the queue is on ${owner}, not on the synthetic path`);
    return { mpps: await wire.reflected('twinpath0', seconds) };
  } finally {
    await port.close();
  }
}

async function testpmd(wire: TapWire, seconds: number): Promise<Sample> {
  const peer = await Testpmd.start({
    ...{ vdevs: ['net_tap0,iface=peer0'], forward: 'macswap', namespace: wire.lab.guest, core: DRIVING_CPU },
  });
  try {
    const { ifindex: tap } = await wire.tap('peer0');
    const { netvsc: device } = wire.lab.nic;
    const { ifindex: netvsc } = await wire.tap(device);
    const tie = new Tie(wire.shim, wire.netlink, { netvsc, tap, device, kind: 'tcx' });
    wire.inside(() => tie.attach());
    try {
      return { mpps: await wire.reflected('peer0', seconds) };
    } finally {
      tie.release();
    }
  } finally {
    await peer.stop();
  }
}
