/**
 * The machine's own programs use the interface through a port, and do not notice: name look-ups, downloads, a
 * session, bulk streams, each way, while the VF comes and goes. ../faults/host-life.test.ts does it for longer, with a VF
 * that goes by surprise; ../faults/host-kill.test.ts kills the port's process.
 */
import { it } from 'vitest';
import { expectLifeGoesOn } from '../support/host-life.ts';

it.each([
  ['veth', 'inline'],
  ['bridge', 'ingress'],
] as const)(
  'over a %s, %s, the programs of the machine work on while the VF comes and goes',
  (standIn, host) => expectLifeGoesOn(standIn, host, 1),
);
