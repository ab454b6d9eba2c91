/** What is asked of the models: configurations without a fault, and steps without which there is one. */
import type { Check } from '../support/spin.ts';

const SMALL = { FRAMES: 2, PACKETS: 1 };

/** For `npm test`: a second or two each. */
export const small: readonly Check[] = [
  { model: 'path-switch', define: SMALL },
  { model: 'path-switch', define: { ...SMALL, WORKER_DEATHS: 1 } },
  { model: 'path-switch', define: { ...SMALL, FRAMES: 1, LIVENESS: true }, formula: 'every_switch_ends' },
];

/** For `npm run test:model`. */
export const large: readonly Check[] = [
  { model: 'path-switch', define: { ...SMALL, LIVENESS: true }, formula: 'every_switch_ends' },
  { model: 'path-switch' },
  { model: 'path-switch', define: { WORKER_DEATHS: 1 } },
  { model: 'path-switch', define: { ...SMALL, COORDINATOR_DEATHS: 1 } },
  { model: 'path-switch', define: { ...SMALL, COORDINATOR_DEATHS: 1, WORKER_DEATHS: 1 } },
  { model: 'path-switch', define: { ...SMALL, VISITS: 2 } },
];

/** A step of the protocol that is left out, and the start of what spin then finds. */
export const broken: readonly (Check & { readonly finds: string })[] = [
  // The coordinator closes the VF before the workers have left it.
  {
    model: 'path-switch',
    define: { ...SMALL, NO_ACKNOWLEDGE: true },
    finds: 'assertion violated ((1==0)||open)',
  },
  // The workers take back frames that the kernel still has.
  { model: 'path-switch', define: { ...SMALL, RECLAIM_EARLY: true }, finds: 'assertion violated  !(open)' },
  // The VF transmits before the synthetic path has sent what it was given: packets overtake others.
  {
    model: 'path-switch',
    define: { NO_SETTLE: true },
    finds: 'assertion violated (number[frame]>last[queue])',
  },
  // Packets that the VF has not taken are not taken back.
  {
    model: 'path-switch',
    define: { ...SMALL, NO_RESCUE: true },
    finds: 'assertion violated ((sent[queue]+lostInside[queue])==decided[queue])',
  },
  // Packets that have arrived by the VF are not handled when it is left.
  {
    model: 'path-switch',
    define: { ...SMALL, NO_DRAIN: true },
    finds: 'assertion violated (decided[queue]==1)',
  },
  // The next coordinator starts before the orders of the dead one are handled.
  {
    model: 'path-switch',
    define: { ...SMALL, COORDINATOR_DEATHS: 1, LATE_ORDERS: true },
    finds: 'assertion violated ((1==0)||open)',
  },
];
