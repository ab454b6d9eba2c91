/**
 * Macswap over a ring in memory, one core: the datapath's own loop against testpmd's over `net_ring`.
 *
 * The same number of packets circulates on both sides. Ours takes up to 256 of them at once where the handler has a
 * `turn`, and 64 where it has not; testpmd is measured at several sizes of its burst: the goals are for its best one,
 * which is found by itself.
 */
import type { Comparison, Row, Side } from '../row.ts';
import { BURST_SIZES, bareLoop, testpmdMacswap } from './circulation.ts';

const peers = Object.fromEntries(
  BURST_SIZES.map((burst): [string, Side] => [
    `testpmd${burst}`,
    ({ seconds }) => testpmdMacswap('net_ring0', burst, seconds),
  ]),
);

/** testpmd's best at 256 packets on the machines where this was looked at; the others show that it is. */
const BEST = 64;

const SHOWN = { wasm: 'WebAssembly', js: 'TypeScript' } as const;

function against(language: 'wasm' | 'js', goal: number): Comparison[] {
  const own = language === 'wasm' ? 'ring' : 'ring:js';
  return [BEST, ...BURST_SIZES.filter((burst) => burst !== BEST)].map((burst) => ({
    name: burst === BEST ? own : `ring:${language}-${burst}`,
    about: `macswap in ${SHOWN[language]} over a ring, beside net_ring, burst ${burst}`,
    ...{ ours: `${language}.mpps`, peer: `testpmd${burst}.mpps`, unit: 'Mpps', better: 'higher' },
    ...(burst === BEST && { goal }),
  }));
}

export const row: Row = {
  name: 'ring',
  about: 'macswap over a ring in memory, 256 packets circulating, one core, no port around it',
  sides: {
    wasm: ({ seconds }) => bareLoop('wasm', seconds),
    ...peers,
    js: ({ seconds }) => bareLoop('js', seconds),
  },
  comparisons: [...against('wasm', 1), ...against('js', 0.7)],
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};
