/**
 * What is done to a port on a machine. Each takes the card's model, and returns what `Machine.finish` says: nothing may be
 * lost, doubled or out of order, but what a scenario allows to be lost.
 */
import { Machine } from './machine.mjs';

/** More than an emulated machine answers at once: packets always wait in the rings. */
const BACKLOG = { rate: 3000, window: 1500, icmpRate: 0 };
/** What a card had been given, or the host sent to it, when it went without a word. */
const EVERYTHING_UNDER_WAY = 4000;

/** Removals that the guest is asked for, each with packets waiting; the host switches as soon as there is a carrier. */
async function cycles(model, { count, options = {}, late = false }) {
  const machine = await Machine.open(options);
  await machine.drive(BACKLOG);
  await machine.passed();
  for (let cycle = 0; cycle < count; cycle++) {
    await machine.plug(model, { slot: 1 + (cycle % 3), late });
    await machine.passed(400);
    await machine.unplug();
    await machine.passed(400);
  }
  return machine.finish();
}

export const SCENARIOS = {
  /** The card is there before the port. */
  async start(model) {
    const machine = await Machine.open({ queues: 1 });
    await machine.drive();
    await machine.plug(model);
    await machine.passed();
    await machine.unplug();
    await machine.passed();
    return machine.finish();
  },

  graceful: (model) => cycles(model, { count: 3, options: { queues: 1 } }),

  /** The host switches only once the port is ready. */
  late: (model) => cycles(model, { count: 1, late: true, options: { queues: 1 } }),

  /** With two workers, of which the card and the bridge give a flow to different ones. */
  queues: (model) => cycles(model, { count: 3 }),

  poll: (model) => cycles(model, { count: 1, options: { queues: 1, mode: 'poll' } }),

  interrupt: (model) => cycles(model, { count: 1, options: { queues: 1, mode: 'interrupt' } }),

  ten: (model) => cycles(model, { count: 10, options: { queues: 1 } }),

  /** The card goes without a word: its registers read ff, and nobody tells the guest for a while. */
  async yank(model) {
    const machine = await Machine.open({ queues: 1 });
    machine.allowed = EVERYTHING_UNDER_WAY;
    await machine.drive();
    await machine.plug(model);
    await machine.passed();
    await machine.yank();
    await machine.passed();
    await machine.plug(model, { slot: 2 });
    await machine.passed();
    await machine.unplug();
    return machine.finish();
  },

  /** What the card had been given when it lost its carrier is lost; the host moves its data path when it notices. */
  async carrier(model) {
    const machine = await Machine.open({ queues: 1 });
    machine.allowed = EVERYTHING_UNDER_WAY;
    await machine.drive();
    await machine.plug(model);
    for (let blink = 0; blink < 2; blink++) {
      await machine.passed();
      await machine.carrier(false);
      await machine.passed();
      await machine.carrier(true);
    }
    await machine.passed();
    return machine.finish();
  },

  /** Somebody sets the VF down and up. */
  async down(model) {
    const machine = await Machine.open({ queues: 1 });
    await machine.drive(BACKLOG);
    await machine.plug(model);
    for (let time = 0; time < 2; time++) {
      await machine.passed();
      await machine.setDown();
      await machine.passed();
      await machine.setUp();
    }
    await machine.passed();
    return machine.finish();
  },
};
