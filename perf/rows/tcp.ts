/**
 * What the machine's own TCP gets: a stream of iperf3 through the port's host path, each way, beside the same
 * stream without a port, and beside DPDK's way to give the kernel a network: testpmd between the VF and a tap.
 */
import type { Comparison, Row, Side } from '../row.ts';
import {
  DIRECTIONS,
  type Direction,
  type Mode,
  streamThrough,
  withoutPort,
  withPort,
  withTestpmd,
} from '../tcp.ts';

type Lab = Parameters<typeof streamThrough>[0];

/** Gbit/s each way, in half the time each: a second at least. */
async function bothWays(lab: Lab, seconds: number): Promise<Record<Direction, number>> {
  const one = async (direction: Direction): Promise<number> =>
    (await streamThrough(lab, direction, seconds / 2)).gigabits;
  return { in: await one('in'), out: await one('out') };
}

const through =
  (mode: Mode, path: 'synthetic' | 'vf'): Side =>
  ({ seconds }) =>
    withPort({ mode, path }, (lab) => bothWays(lab, seconds));

const WAYS: Record<Direction, string> = { in: 'received', out: 'sent' };

function comparisons(
  side: string,
  about: string,
  peer: string,
  goal: number,
  name: (direction: Direction) => string,
): Comparison[] {
  return DIRECTIONS.map((direction) => ({
    name: name(direction),
    about: `${about}, ${WAYS[direction]}`,
    ...{ ours: `${side}.${direction}`, peer: `${peer}.${direction}`, unit: 'Gbit/s', better: 'higher', goal },
  }));
}

/** Of what the kernel alone gets, and of what testpmd gets. */
const GOALS = { plain: 0.5, testpmd: 1.5 };

export const row: Row = {
  name: 'tcp',
  about:
    'one TCP stream of iperf3 between a lab’s guest and the outside, through the port’s host path; iperf3 and the lab’s switch share the cores with it',
  sides: {
    plain: ({ seconds }) => withoutPort((lab) => bothWays(lab, seconds)),
    inlineVf: through('inline', 'vf'),
    testpmd: ({ seconds }) => withTestpmd((lab) => bothWays(lab, seconds)),
    ingressVf: through('ingress', 'vf'),
    inlineSynthetic: through('inline', 'synthetic'),
    ingressSynthetic: through('ingress', 'synthetic'),
  },
  comparisons: [
    ...comparisons('inlineVf', 'inline by the VF; beside no port', 'plain', GOALS.plain, (direction) =>
      direction === 'in' ? 'tcp' : 'tcp:inline-vf-out',
    ),
    ...comparisons(
      'inlineVf',
      'inline by the VF; beside testpmd, VF and tap',
      'testpmd',
      GOALS.testpmd,
      (direction) => `tcp:inline-vf-${direction}/testpmd`,
    ),
    ...comparisons(
      'ingressVf',
      'ingress by the VF; beside no port',
      'plain',
      GOALS.plain,
      (direction) => `tcp:ingress-vf-${direction}`,
    ),
    ...comparisons(
      'ingressVf',
      'ingress by the VF; beside testpmd, VF and tap',
      'testpmd',
      GOALS.testpmd,
      (direction) => `tcp:ingress-vf-${direction}/testpmd`,
    ),
    ...comparisons(
      'inlineSynthetic',
      'inline by the NetVSC; beside no port',
      'plain',
      GOALS.plain,
      (direction) => `tcp:inline-synthetic-${direction}`,
    ),
    ...comparisons(
      'ingressSynthetic',
      'ingress by the NetVSC; beside no port',
      'plain',
      GOALS.plain,
      (direction) => `tcp:ingress-synthetic-${direction}`,
    ),
  ],
  full: { runs: 3, seconds: 2 },
  quick: { runs: 1, seconds: 2 },
};
