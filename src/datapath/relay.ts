/**
 * Forwarding to a port of another memory: copies, through a ring that lies there. Each worker of this memory
 * claims one of the few relays of the worker there that serves the same queue number, or the next.
 *
 * The sender's side needs the other memory and nothing else of it; it never waits for the other, and drops
 * when the ring is full or those ports are closed. Belongs to the worker threads.
 */
import { announce } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
import { CopyReceiver, CopySender } from '../memory/copies.ts';
import { BURST, Control, RELAY_ENTRIES, RELAYS, WorkerBlock } from '../memory/layout.ts';
import { Memory } from '../memory/shared.ts';
import type { RelayRoute } from '../options.ts';
import type { Dispatch, Relay } from './dispatch.ts';

const relayWord = ({ layout }: Memory, queue: number, relay: number): number =>
  ((layout.worker(queue) + WorkerBlock.relays) >> 2) + relay;

/** The sending end for worker `queue` of `memory`. If every relay there is taken, it drops. */
export function relayTo(shim: Shim, memory: Memory, queue: number, route: RelayRoute): Relay {
  const to = Memory.attach(route.shared);
  const { queues } = to.layout.geometry;
  const target = queue % queues;
  const claim = route.from * 64 + queue + 1;
  let number = 0;
  while (number < RELAYS) {
    const before = Atomics.compareExchange(to.words, relayWord(to, target, number), 0, claim);
    if (before === 0 || before === claim) break; // free, or a dead worker's of this queue
    number++;
  }
  const claimed = number < RELAYS;
  const sender = new CopySender(to, to.layout.relay(target, claimed ? number : 0), RELAY_ENTRIES, memory);
  return {
    sender,
    port: route.port,
    get open() {
      return claimed && Atomics.load(to.words, Control.stop >> 2) === 0;
    },
    flush() {
      if (sender.commit() > 0) announce(shim, to, target);
    },
    close() {
      if (claimed) Atomics.compareExchange(to.words, relayWord(to, target, number), claim, 0);
    },
  };
}

/** The receiving ends of one worker. */
export class RelayReceivers {
  readonly #memory: Memory;
  readonly #queue: number;
  readonly #ports: readonly Dispatch[];
  readonly #inboxAt: number;
  readonly #receivers: (CopyReceiver | undefined)[] = [];
  /** Last known count of the inbox; nothing was relayed while it stands still. */
  #seen = -1;

  constructor(memory: Memory, queue: number, ports: readonly Dispatch[]) {
    this.#memory = memory;
    this.#queue = queue;
    this.#ports = ports;
    this.#inboxAt = (memory.layout.worker(queue) + WorkerBlock.inbox) >> 2;
  }

  /** Sends what has come, a burst of each relay at most. Returns how many packets. */
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
