/** The machine's own programs use the interface through a port, and do not notice that the VF goes, once by surprise. */
import { it } from 'vitest';
import { expectLifeGoesOn } from '../support/host-life.ts';

it.each([
  { standIn: 'veth', host: 'inline', cycles: 3 },
  { standIn: 'bridge', host: 'ingress', cycles: 3 },
  { standIn: 'veth', host: 'ingress', cycles: 1 },
  { standIn: 'bridge', host: 'inline', cycles: 1 },
] as const)(
  'over a $standIn, $host, the programs of the machine work on while the VF comes and goes $cycles times',
  ({ standIn, host, cycles }) => expectLifeGoesOn(standIn, host, cycles),
);
