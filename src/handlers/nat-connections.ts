/**
 * The connections of `balance` by NAT, in memory that all workers of the port share and that outlives each of them.
 *
 * Each worker has a part of the memory, in which it alone makes connections, and a part of the source ports: an entry's position is
 * its address and port, so no port is given twice and the packet that a backend sends names the entry. A worker reads all parts,
 * because a backend's packets, and a client's after a change of the RSS table, may reach any.
 *
 * Words of an entry are written before its state, and the state is 0 while they are not right. So a worker that dies leaves no
 * connection with half of its words. Belongs to the worker thread; allocates nothing but the constructor.
 */
import type { HandlerContext } from '../handler/handler.ts';
import { Protocol } from '../net/ip.ts';
import type { FlowKey } from '../state/flow-key.ts';
import { FlowTable } from '../state/flow-table.ts';
import { invalid } from '../validation.ts';

/** Words of an entry. */
export const Word = {
  STATE: 0,
  CLIENT: 1,
  /** Ports of the client's packets: its own in the high half, the virtual one in the low. */
  CLIENT_PORTS: 2,
  VIP: 3,
  BACKEND: 4,
  BACKEND_PORT: 5,
  /** Source of the client's last packet: 4 bytes, and 2. */
  CLIENT_MAC: 6,
  CLIENT_MAC_END: 7,
  /** Index in the list of backends. */
  BACKEND_INDEX: 8,
  /** TCP: the number that the client acknowledges with when it has the backend's SYN. */
  ACKNOWLEDGED: 9,
  /** MAC address of the backend when the client's last packet went to it: 4 bytes, and 2. 0 and 0 if it has none. */
  BACKEND_MAC: 10,
  BACKEND_MAC_END: 11,
} as const;
const WORDS = 12;

/** Bits of the state, above the protocol. */
export const State = {
  /** The backend has answered, by TCP with a SYN. */
  ANSWERED: 1 << 8,
  /**
   * The client has gone on after that. By TCP it has named the number in the answer, which a sender with a forged address does not
   * see. By UDP such a sender can also send twice.
   */
  ESTABLISHED: 1 << 9,
  CLIENT_FIN: 1 << 10,
  BACKEND_FIN: 1 << 11,
  /** The end's last segment was a RST. If it goes on, another has forged that, or the other end has not taken it. */
  CLIENT_RESET: 1 << 12,
  BACKEND_RESET: 1 << 13,
} as const;
const { ESTABLISHED, CLIENT_FIN, BACKEND_FIN, CLIENT_RESET, BACKEND_RESET } = State;
const FINS = CLIENT_FIN | BACKEND_FIN;
const RESETS = CLIENT_RESET | BACKEND_RESET;
const PROTOCOL = 0xff;
const { UDP } = Protocol;

/** How long connections live without packets. RFC 4787, REQ-5, asks for 2 minutes of UDP. */
const HALF_OPEN_MILLIS = 10_000;
const CLOSED_MILLIS = 10_000;
const UDP_MILLIS = 120_000;

/** Entries of a part are a multiple of it: see `FlowTable`. */
const WAYS = 8;
/** Parts begin in cache lines of their own, and the next of each. */
const ALIGNMENT = 128;

export interface NatPool {
  /** Source addresses. */
  readonly sources: Int32Array;
  /** Source ports at each of them, ascending. */
  readonly ports: Uint16Array;
  /** Of a TCP connection without packets. */
  readonly idleMillis: number;
}

export class NatConnections {
  /** Connections for which there was no entry. */
  get refused(): number {
    return this.#own.refused;
  }

  readonly #pool: NatPool;
  readonly #entries: number;
  readonly #tables: readonly FlowTable[];
  readonly #words: readonly Int32Array[];
  readonly #own: FlowTable;
  readonly #queue: number;
  /** By port: its position among the ports; -1 for another. */
  readonly #positions = new Int32Array(0x10000).fill(-1);
  /** The current connection. */
  #part = 0;
  #entry = 0;

  /** @throws TwinpathError ERR_OPTION_INVALID if there are fewer than eight ports for each worker */
  constructor({ clock, shared, queue, queues }: HandlerContext, pool: NatPool) {
    this.#pool = pool;
    pool.ports.forEach((port, i) => {
      this.#positions[port] = i;
    });
    const all = pool.sources.length * pool.ports.length;
    const entries = Math.floor(all / queues / WAYS) * WAYS;
    if (entries === 0) {
      invalid(
        'sourcePorts',
        `${all} ports are too few for ${queues} queues`,
        `Give at least ${WAYS} for each.`,
      );
    }
    this.#entries = entries;
    const tableBytes = FlowTable.bytes(entries);
    const partBytes = Math.ceil((tableBytes + entries * WORDS * 4) / ALIGNMENT) * ALIGNMENT;
    const buffer = shared(queues * partBytes);
    this.#words = Array.from(
      { length: queues },
      (_, part) => new Int32Array(buffer, part * partBytes + tableBytes, entries * WORDS),
    );
    const own = this.#words[queue]!;
    const mayEvict = (entry: number): boolean => {
      const state = own[entry * WORDS]!;
      return (state & ESTABLISHED) === 0 || isOver(state);
    };
    const removed = (entry: number): void => Atomics.store(own, entry * WORDS, 0) as unknown as undefined;
    this.#tables = Array.from({ length: queues }, (_, part) => {
      const memory = { buffer, at: part * partBytes };
      return new FlowTable(
        part === queue ? { clock, entries, memory, mayEvict, removed } : { clock, entries, memory },
      );
    });
    this.#own = this.#tables[queue]!;
    this.#queue = queue;
  }

  /** Makes the connection of a client's packets the current one, if there is one. */
  find(key: FlowKey): boolean {
    if (this.#findIn(this.#queue, key)) return true;
    for (let part = 0; part < this.#tables.length; part++) {
      if (part !== this.#queue && this.#findIn(part, key)) return true;
    }
    return false;
  }

  /** Makes a connection, whose words the caller sets, the state last. @returns false if there is no entry for it */
  open(key: FlowKey): boolean {
    const entry = this.#own.add(key, HALF_OPEN_MILLIS);
    if (entry < 0) return false;
    this.#part = this.#queue;
    this.#entry = entry;
    return true;
  }

  /**
   * Makes the connection that has this source address and port the current one, if there is one.
   *
   * @param source index of the address
   */
  findBySource(source: number, port: number): boolean {
    const position = this.#positions[port]!;
    if (position < 0) return false;
    const index = source * this.#pool.ports.length + position;
    const part = Math.floor(index / this.#entries);
    if (part >= this.#tables.length) return false;
    this.#part = part;
    this.#entry = index - part * this.#entries;
    return this.#tables[part]!.isAlive(this.#entry) && this.get(Word.STATE) !== 0;
  }

  /** A word of the current connection. */
  get(word: number): number {
    return this.#words[this.#part]![this.#entry * WORDS + word]!;
  }

  set(word: number, value: number): void {
    this.#words[this.#part]![this.#entry * WORDS + word] = value;
  }

  /** Source address of the current connection. */
  get source(): number {
    return this.#pool.sources[Math.floor(this.#index / this.#pool.ports.length)]!;
  }

  /** Source port of the current connection. */
  get sourcePort(): number {
    return this.#pool.ports[this.#index % this.#pool.ports.length]!;
  }

  /** Sets the state of the current connection, after its other words, and how long it lives from now on. */
  go(state: number): void {
    const words = this.#words[this.#part]!;
    const at = this.#entry * WORDS + Word.STATE;
    if (words[at] !== state) Atomics.store(words, at, state);
    this.#tables[this.#part]!.keep(this.#entry, this.#millisOf(state));
  }

  /** Frees some entries whose time is over. */
  sweep(count: number): void {
    this.#own.sweep(count);
  }

  get #index(): number {
    return this.#part * this.#entries + this.#entry;
  }

  #findIn(part: number, key: FlowKey): boolean {
    const entry = this.#tables[part]!.find(key);
    if (entry < 0) return false;
    this.#part = part;
    this.#entry = entry;
    return this.get(Word.STATE) !== 0;
  }

  #millisOf(state: number): number {
    if ((state & PROTOCOL) === UDP) return UDP_MILLIS;
    if (isOver(state)) return CLOSED_MILLIS;
    return (state & ESTABLISHED) === 0 ? HALF_OPEN_MILLIS : this.#pool.idleMillis;
  }
}

/** Whether both ends have ended the connection, or one has reset it. */
export function isOver(state: number): boolean {
  return (state & RESETS) !== 0 || (state & FINS) === FINS;
}
