/**
 * Forwarding to a port of another memory: copies, through a ring in that memory. Each worker of this memory claims a relay of
 * the worker there with the same queue number, or of the next one that has a free relay.
 *
 * The sender needs only the other memory. It never waits for the receiver, and drops when the ring is full or those ports
 * are closed. Belongs to the worker threads.
 */
import { announce } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
import { CopyReceiver, CopySender } from '../memory/copies.ts';
import { RELAY_ENTRIES, RELAYS } from '../memory/geometry.ts';
import { BURST } from '../memory/layout.ts';
import { Memory } from '../memory/shared.ts';
import type { RelayRoute } from '../options.ts';
import type { ForwardPort, Relay } from './forward.ts';

const relayWord = ({ workers }: Memory, queue: number, relay: number): number =>
  workers[queue]!.at('relays') + relay;

/** The sending ends of worker `queue` of `memory`: one relay to each other memory, for all of its ports. */
export function relaysTo(
  shim: Shim,
  memory: Memory,
  queue: number,
  routes: readonly RelayRoute[],
): readonly Relay[] {
  const relays = new Map<unknown, Omit<Relay, 'port'>>();
  return routes.map(({ shared, port, from }) => {
    const known = relays.get(shared.memory);
    const relay = known ?? relayTo(shim, memory, queue, { to: Memory.attach(shared), from });
    relays.set(shared.memory, relay);
    const { sender, flush, close } = relay;
    return {
      sender,
      port,
      flush,
      close,
      get open() {
        return relay.open;
      },
    };
  });
}

/** If every relay there is claimed, it drops. */
function relayTo(
  shim: Shim,
  memory: Memory,
  queue: number,
  { to, from }: { to: Memory; from: number },
): Omit<Relay, 'port'> {
  const claim = from * 64 + queue + 1;
  const claimed = claimRelay(to, queue, claim);
  const { target, number } = claimed ?? { target: 0, number: 0 };
  const word = relayWord(to, target, number);
  const sender = new CopySender(to, to.layout.relay(target, number), RELAY_ENTRIES, memory);
  const { words } = to;
  const stop = to.control.at('stop');
  return {
    sender,
    get open() {
      return claimed !== undefined && Atomics.load(words, stop) === 0; // for each packet: without a look-up by name
    },
    flush() {
      if (sender.madeAny()) announce(shim, to, target);
    },
    close() {
      if (claimed) Atomics.compareExchange(to.words, word, claim, 0);
    },
  };
}

/** The relay that a dead worker of this queue had claimed; else a free one, first of the worker with the same number. */
function claimRelay(
  to: Memory,
  queue: number,
  claim: number,
): { target: number; number: number } | undefined {
  const { queues } = to.layout.geometry;
  for (const wanted of [claim, 0]) {
    for (let step = 0; step < queues * RELAYS; step++) {
      const target = (queue + Math.floor(step / RELAYS)) % queues;
      const number = step % RELAYS;
      const word = relayWord(to, target, number);
      if (Atomics.compareExchange(to.words, word, wanted, claim) === wanted) return { target, number };
    }
  }
  return undefined;
}

/** A port that takes relayed packets. */
type Accepting = Pick<ForwardPort, 'acceptCopy'>;

/** The receiving ends of one worker. */
export class RelayReceivers {
  readonly #memory: Memory;
  readonly #queue: number;
  readonly #ports: readonly Accepting[];
  readonly #inboxAt: number;
  readonly #receivers: (CopyReceiver | undefined)[] = [];
  /** Count of the inbox at which all relays were empty; they still are until it changes. */
  #seen = -1;

  constructor(memory: Memory, queue: number, ports: readonly Accepting[]) {
    this.#memory = memory;
    this.#queue = queue;
    this.#ports = ports;
    this.#inboxAt = memory.workers[queue]!.at('inbox');
  }

  /** Sends the packets that have come, a burst of each relay at most. Returns how many. */
  poll(): number {
    const { words } = this.#memory;
    const inbox = Atomics.load(words, this.#inboxAt);
    if (inbox === this.#seen) return 0;
    let handled = 0;
    for (let relay = 0; relay < RELAYS; relay++) {
      const receiver = this.#receiver(relay);
      if (receiver === undefined) continue;
      const count = receiver.ready(BURST);
      for (let i = 0; i < count; i++) {
        this.#ports[receiver.port(i)]?.acceptCopy(receiver.offset(i), receiver.bytes(i));
      }
      receiver.release(count);
      handled += count;
    }
    if (handled === 0) this.#seen = inbox;
    return handled;
  }

  #receiver(relay: number): CopyReceiver | undefined {
    const { words, layout } = this.#memory;
    if (this.#receivers[relay] !== undefined) return this.#receivers[relay];
    if (words[relayWord(this.#memory, this.#queue, relay)] === 0) return undefined;
    const receiver = new CopyReceiver(this.#memory, layout.relay(this.#queue, relay), RELAY_ENTRIES);
    this.#receivers[relay] = receiver;
    return receiver;
  }
}
