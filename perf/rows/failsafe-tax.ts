/** What the port itself costs: two paths polled, ownership looked at, statistics kept, against the bare loop and failsafe. */
import type { Row } from '../row.ts';
import { bareLoop, testpmdMacswap, wholePort } from './circulation.ts';

const FAILSAFE = 'net_failsafe0,dev(net_ring0),dev(net_ring1)';

export const row: Row = {
  name: 'failsafe-tax',
  about:
    'macswap through the whole port, both paths in memory and one idle, 256 packets circulating, one core',
  sides: {
    port: ({ seconds }) => wholePort(seconds),
    ring: ({ seconds }) => bareLoop('wasm', seconds),
    failsafe32: ({ seconds }) => testpmdMacswap(FAILSAFE, 32, seconds),
    failsafe64: ({ seconds }) => testpmdMacswap(FAILSAFE, 64, seconds),
  },
  comparisons: [
    {
      name: 'failsafe-tax',
      about: 'macswap in WebAssembly through the whole port, beside the bare loop',
      ...{ ours: 'port.mpps', peer: 'ring.mpps', unit: 'Mpps', better: 'higher', goal: 0.95 },
    },
    {
      name: 'failsafe-tax:testpmd-32',
      about: 'the same, beside net_failsafe over two net_ring, burst 32',
      ...{ ours: 'port.mpps', peer: 'failsafe32.mpps', unit: 'Mpps', better: 'higher', goal: 1 },
    },
    {
      name: 'failsafe-tax:testpmd-64',
      about: 'the same, burst 64',
      ...{ ours: 'port.mpps', peer: 'failsafe64.mpps', unit: 'Mpps', better: 'higher', goal: 1 },
    },
  ],
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};
