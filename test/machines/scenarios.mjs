/**
 * What is done to a port on a machine. Each takes the card's model, and returns what `Machine.finish` says: nothing may be
 * lost, doubled or out of order, but what a scenario allows to be lost.
 */
import { HeldPort } from './held.mjs';
import { ADDRESSES_TO_ACCEPT, Machine, settingsOf } from './machine.mjs';
import { Second } from './second.mjs';
import { download, serve } from './tcp.mjs';

/** More than an emulated machine answers at once: packets always wait in the rings. */
const BACKLOG = { rate: 3000, window: 1500, icmpRate: 0 };
/** What a card had been given, or the host sent to it, when it went without a word. */
const EVERYTHING_UNDER_WAY = 4000;

const [FIRST, SECOND, GROUP] = ADDRESSES_TO_ACCEPT;

/** One, but for cards that insist on as many as the machine has CPUs. */
const few = (model) => ({ queues: model === 'vmxnet3' ? 2 : 1 });

/** Removals that the guest is asked for, each with packets waiting; the host switches as soon as there is a carrier. */
async function cycles(model, { count, options = few(model), late = false }) {
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

/** What is done to a port whose process is killed. */
async function killed(model, machine, held) {
  machine.allowed = EVERYTHING_UNDER_WAY;
  await machine.drive({ rate: 100, window: 60 }); // no more than a socket of the guest's holds
  await machine.plug(model);
  await machine.passed();
  if (!machine.hasProgram) machine.failures.push('the card had no program while the port was open');
  await held.kill();
  if (machine.hasProgram) machine.failures.push('the card has a program, and nobody who reads');
  await machine.passed();
  await machine.openPort(few(model));
  await machine.owned('vf');
  await machine.passed();
  await machine.unplug();
  await machine.passed();
  return machine.finish();
}

export const SCENARIOS = {
  /** The card is there before the port. */
  async start(model) {
    const machine = await Machine.open(few(model));
    await machine.drive();
    await machine.plug(model);
    await machine.passed();
    await machine.unplug();
    await machine.passed();
    return machine.finish();
  },

  graceful: (model) => cycles(model, { count: 3 }),

  /** The host switches only once the port is ready. */
  late: (model) => cycles(model, { count: 1, late: true }),

  /** With two workers, of which the card and the bridge give a flow to different ones. */
  queues: (model) => cycles(model, { count: 3, options: { queues: 2 } }),

  poll: (model) => cycles(model, { count: 1, options: { ...few(model), mode: 'poll' } }),

  interrupt: (model) => cycles(model, { count: 1, options: { ...few(model), mode: 'interrupt' } }),

  ten: (model) => cycles(model, { count: 10 }),

  /** The card goes without a word: its registers read ff, and nobody tells the guest for a while. */
  async yank(model) {
    const machine = await Machine.open(few(model));
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
    const machine = await Machine.open(few(model));
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
    const machine = await Machine.open(few(model));
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

  /** The card alone: AF_XDP on it where it has native XDP, beside a tap, and else the tap. It is set down and up. */
  async alone(model) {
    const machine = await Machine.openAlone(model, few(model));
    machine.allowed = EVERYTHING_UNDER_WAY;
    await machine.drive();
    for (let time = 0; time < 2; time++) {
      await machine.passed();
      await machine.blink();
    }
    await machine.passed();
    if (model === 'igb' && !machine.mode.startsWith('native')) machine.failures.push(`by ${machine.mode}`);
    return machine.finish();
  },

  /** In a VLAN that the guest's kernel does not know. A card that drops such frames loses them, and the port is to say so. */
  async vlan(model) {
    const machine = await Machine.open(few(model));
    await machine.driveTagged();
    for (let cycle = 0; cycle < 2; cycle++) {
      await machine.passed();
      await machine.plug(model, { slot: 1 + cycle });
      if (machine.notes.some((note) => note.includes('frames of VLANs')))
        machine.allowed = EVERYTHING_UNDER_WAY;
      else await machine.passed();
      await machine.unplug();
    }
    await machine.passed();
    return machine.finish();
  },

  /** Packets of 1,500 bytes, the most that an Ethernet carries, by card and bridge in turn. */
  async long(model) {
    const machine = await Machine.open(few(model));
    await machine.drive({ bytes: 1472 });
    for (let cycle = 0; cycle < 2; cycle++) {
      await machine.passed();
      await machine.plug(model, { slot: 1 + cycle });
      await machine.passed();
      await machine.unplug();
    }
    await machine.passed();
    return machine.finish();
  },

  /**
   * The process that holds the port is killed while the card serves: the machine's own stack has its traffic at once, and the
   * next port takes over.
   */
  async kill(model) {
    const server = await serve();
    const held = await HeldPort.open();
    const machine = Machine.behind(held);
    try {
      return await killed(model, machine, held);
    } finally {
      await held.kill();
      server.close();
    }
  },

  /** A second port, served by the same workers, while the first one's card goes and comes. */
  async two(model) {
    const second = new Second();
    try {
      const machine = await Machine.open({ ...few(model), others: [second.port] });
      await machine.drive();
      await second.drive();
      for (let cycle = 0; cycle < 2; cycle++) {
        await machine.plug(model, { slot: 1 + cycle });
        await machine.passed();
        await machine.unplug();
        await machine.passed();
      }
      machine.failures.push(...(await second.stop()));
      return await machine.finish();
    } finally {
      second.remove();
    }
  },

  /** Features, channels, RSS key and table of the card are what they were once the port is closed. */
  async settings(model) {
    const before = await settingsOf(model);
    const machine = await Machine.open({ queues: 2 });
    await machine.drive();
    await machine.plug(model);
    await machine.passed();
    const result = await machine.finish();
    if ((await settingsOf(model)) !== before) result.failures.push('the card is not set as it was');
    return result;
  },

  /**
   * What the port was asked for is on whichever card comes, also what was asked while there was none. A card may reset itself
   * for another MTU, which costs what the host sends to it meanwhile.
   */
  async configuration(model) {
    const machine = await Machine.open(few(model));
    machine.allowed = EVERYTHING_UNDER_WAY;
    const { port } = machine;
    await machine.drive();
    await port.configure({ mtu: 1400, unicast: [FIRST, SECOND] });
    await machine.plug(model);
    await machine.passed();
    machine.checkConfigured({ mtu: 1400, unicast: [FIRST, SECOND], multicast: [], promiscuous: false });
    await port.configure({ mtu: 1300, unicast: [SECOND], multicast: [GROUP], promiscuous: true });
    machine.checkConfigured({ mtu: 1300, unicast: [SECOND], multicast: [GROUP], promiscuous: true });
    await machine.owned('vf');
    await machine.passed();
    await machine.unplug();
    await port.configure({ mtu: null, unicast: [FIRST], promiscuous: false });
    await machine.plug(model, { slot: 2 });
    await machine.passed();
    machine.checkConfigured({ mtu: 1500, unicast: [FIRST], multicast: [GROUP], promiscuous: false });
    await machine.unplug();
    return machine.finish();
  },

  /** Downloads from the guest's own stack, and its echo, by a handler that passes everything on, while the card goes and comes. */
  async tcp(model) {
    const server = await serve();
    const machine = await Machine.open({
      ...few(model),
      handler: new URL('../../dist/src/handlers/host.js', import.meta.url),
      handlerOptions: undefined,
    });
    await machine.drive({ rate: 20, window: 20 });
    const done = await download();
    for (let cycle = 0; cycle < 2; cycle++) {
      await machine.plug(model, { slot: 1 + cycle });
      await server.served();
      await machine.unplug();
      await server.served();
    }
    const wrong = await done();
    const result = await machine.finish();
    server.close();
    result.failures.push(...wrong);
    return result;
  },
};
