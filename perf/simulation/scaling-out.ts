/**
 * Connections that keep their backend while machines and backends come and go: `node dist/perf/simulation/scaling-out.js`
 * prints the table of docs/scaling-out.md.
 *
 * Each machine runs the handler `balance` itself, over one packet of each connection after each event. Compared with it is a
 * load balancer whose machines each remember their own connections and share nothing. No clock and no chance: every run gives
 * the same table.
 */
import { pathToFileURL } from 'node:url';
import * as balance from '../../src/handlers/balance.ts';
import { HandlerTest } from '../../src/testing.ts';
import { consistent, type Front, modulo, Remembering, scramble } from './fronts.ts';

export interface Size {
  readonly machines: number;
  readonly backends: number;
  readonly connections: number;
}

/** Shares of the connections that had the same backend all the time, 0 to 1. */
export interface Row {
  readonly event: string;
  /** What no balancer without a memory of connections can exceed, if it keeps spreading them evenly. */
  readonly best: number;
  /** The least over all fronts. */
  readonly balance: number;
  /** Machines that remember their own connections, by the front before them. */
  readonly remembering: Readonly<Record<FrontName, number>>;
}

type FrontName = 'modulo' | 'consistent' | 'remembering';

const FRONTS: Record<FrontName, () => Front> = {
  modulo: () => modulo,
  consistent: () => consistent,
  remembering: () => new Remembering(),
};

/** What is there at one time: numbers of machines and of backends. */
interface Fleet {
  readonly machines: readonly number[];
  readonly backends: readonly number[];
}

interface Event {
  readonly name: string;
  readonly best: number;
  /** The first is before the event. A machine that has been away has forgotten everything. */
  readonly fleets: readonly Fleet[];
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const without = (all: readonly number[], one: number): number[] => all.filter((each) => each !== one);

function eventsOf({ machines: m, backends: b }: Size): Event[] {
  const [machines, backends] = [numbers(m), numbers(b)];
  const fleet: Fleet = { machines, backends };
  const upgrade = machines.flatMap((machine) => [{ ...fleet, machines: without(machines, machine) }, fleet]);
  return [
    {
      name: 'a machine goes',
      best: 1,
      fleets: [fleet, { ...fleet, machines: without(machines, 1) }],
    },
    { name: 'a machine comes', best: 1, fleets: [fleet, { ...fleet, machines: numbers(m + 1) }] },
    { name: 'all machines are replaced, one after the other', best: 1, fleets: [fleet, ...upgrade] },
    {
      name: 'a backend goes',
      best: (b - 1) / b,
      fleets: [fleet, { ...fleet, backends: without(backends, 1) }],
    },
    { name: 'a backend comes', best: b / (b + 1), fleets: [fleet, { ...fleet, backends: numbers(b + 1) }] },
    {
      name: 'a backend goes, and a machine',
      best: (b - 1) / b,
      fleets: [fleet, { machines: without(machines, 2), backends: without(backends, 1) }],
    },
  ];
}

/** Chooses a backend for a connection: its number. */
interface Machine {
  backendOf(connection: number, backends: readonly number[]): number;
}

/** A machine with the handler. The handler keeps no state: what it chose once stands for the next time. */
class Balancing implements Machine {
  readonly #machine: number;
  readonly #frames: readonly Uint8Array[];
  readonly #lists = new Map<string, { readonly handler: HandlerTest; readonly chosen: Int16Array }>();

  constructor(machine: number, frames: readonly Uint8Array[]) {
    this.#machine = machine;
    this.#frames = frames;
  }

  async prepare(backends: readonly number[]): Promise<void> {
    const key = backends.join();
    if (this.#lists.has(key)) return;
    // In an order of its own: a balancer must not depend on it.
    const ordered = backends.map((_, i) => backends[(i + this.#machine) % backends.length]!);
    const options = { vip: '10.0.0.100', backends: ordered.map(macOf) };
    const handler = await HandlerTest.of(balance, { options });
    this.#lists.set(key, { handler, chosen: new Int16Array(this.#frames.length).fill(-1) });
  }

  backendOf(connection: number, backends: readonly number[]): number {
    const { handler, chosen } = this.#lists.get(backends.join())!;
    if (chosen[connection] === -1) {
      const [outcome] = handler.run([this.#frames[connection]!]);
      chosen[connection] = outcome!.bytes[5]!; // the last byte of the destination
    }
    return chosen[connection]!;
  }
}

/** A machine that gives new connections to the backends in turn, and remembers them. */
class Table implements Machine {
  readonly #known = new Map<number, number>();
  #turn: number;

  constructor(machine: number) {
    this.#turn = machine; // machines do not begin at the same backend
  }

  backendOf(connection: number, backends: readonly number[]): number {
    const known = this.#known.get(connection);
    if (known !== undefined && backends.includes(known)) return known;
    const backend = backends[this.#turn++ % backends.length]!;
    this.#known.set(connection, backend);
    return backend;
  }
}

const macOf = (backend: number): string =>
  `backend-${backend}@02:00:00:00:01:${backend.toString(16).padStart(2, '0')}`;

/** Share of the connections that had one backend all the time. */
function kept(
  { fleets }: Event,
  front: Front,
  hashes: Uint32Array,
  newMachine: (machine: number) => Machine,
): number {
  const machines = new Map<number, Machine>();
  const backendOf = new Int32Array(hashes.length).fill(-1);
  const lost = new Uint8Array(hashes.length);
  for (const { machines: present, backends } of fleets) {
    for (const machine of machines.keys()) if (!present.includes(machine)) machines.delete(machine);
    for (const machine of present) if (!machines.has(machine)) machines.set(machine, newMachine(machine));
    for (let connection = 0; connection < hashes.length; connection++) {
      const machine = machines.get(front.choose(connection, hashes[connection]!, present))!;
      const backend = machine.backendOf(connection, backends);
      if (backendOf[connection] !== -1 && backendOf[connection] !== backend) lost[connection] = 1;
      else backendOf[connection] = backend;
    }
  }
  return 1 - lost.reduce((sum, one) => sum + one, 0) / lost.length;
}

export async function simulate(size: Size): Promise<Row[]> {
  const connections = numbers(size.connections);
  const frames = connections.map(frameOf);
  const hashes = Uint32Array.from(connections, (connection) => scramble(connection + 0x5eed));
  const rows: Row[] = [];
  const balancing = numbers(size.machines + 1).map((machine) => new Balancing(machine, frames));
  for (const event of eventsOf(size)) {
    for (const { backends } of event.fleets) for (const one of balancing) await one.prepare(backends);
    const names = Object.keys(FRONTS) as FrontName[];
    const ours = names.map((name) => kept(event, FRONTS[name](), hashes, (machine) => balancing[machine]!));
    const theirs = names.map((name) => [
      name,
      kept(event, FRONTS[name](), hashes, (machine) => new Table(machine)),
    ]);
    rows.push({
      event: event.name,
      best: event.best,
      balance: Math.min(...ours),
      remembering: Object.fromEntries(theirs) as Row['remembering'],
    });
  }
  return rows;
}

/** TCP to port 443 of the virtual address: 54 bytes. */
function frameOf(connection: number): Uint8Array {
  const frame = new Uint8Array(54);
  const view = new DataView(frame.buffer);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 40]);
  frame.set([64, 6], 22);
  view.setUint32(26, 0xc6120000 + (scramble(connection) % 0x1ffff)); // 198.18.0.0/15
  frame.set([10, 0, 0, 100], 30);
  view.setUint16(34, 1024 + (scramble(~connection) % 64_000));
  view.setUint16(36, 443);
  frame[46] = 0x50;
  return frame;
}

const SIZE: Size = { machines: 8, backends: 16, connections: 5000 };

/** As docs/scaling-out.md has it. */
export async function table(size = SIZE): Promise<string> {
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const rows = await simulate(size);
  return [
    '| event | best | `balance`, any front | own tables, modulo | own tables, consistent | own tables, front remembers |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
    ...rows.map(({ event, best, balance, remembering }) => {
      const { modulo, consistent, remembering: sticky } = remembering;
      return `| ${[event, ...[best, balance, modulo, consistent, sticky].map(percent)].join(' | ')} |`;
    }),
  ].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) console.log(await table());
