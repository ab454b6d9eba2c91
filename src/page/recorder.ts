/**
 * Reads the counters of ports again and again, and keeps the last of what they say: rates by path, changes of path, and the
 * present state. Reads the shared memory, and /proc for the workers' CPU times: asks no other thread. Belongs to the thread that
 * opened the ports.
 */
import type { StatisticsSample } from '../control/protocol.ts';
import { type Flow as FlowRates, type PortRates, ratesBetween } from '../control/rates.ts';
import { sampleOf } from '../control/sample.ts';
import { IdleCode } from '../datapath/idle.ts';
import type { SharedMemory } from '../memory/geometry.ts';
import { Journal } from '../memory/journal.ts';
import { Memory } from '../memory/shared.ts';
import type { PortHealth } from '../metrics/health.ts';
import type { Port } from '../port.ts';
import { losses, type PortStatistics } from '../statistics.ts';
import type { Flow, PathKey, PortState, QueueSwitch, Sample } from './messages.ts';

/** Between two samples. A failover is drawn by its own times, whatever this is. */
export const SAMPLE_MILLIS = 500;
/** Ten minutes. */
export const KEPT_SAMPLES = 1200;
/** As many as the journal has. */
export const KEPT_SWITCHES = 1024;

const PATHS = ['vf', 'synthetic', 'host'] as const satisfies readonly PathKey[];
const MODES = Object.keys(IdleCode);

/** Ports that were opened together share a memory and a journal. */
interface Group {
  readonly memory: Memory;
  readonly journal: Journal;
  /** By a port's number in the memory: its number here. */
  readonly numbers: Map<number, number>;
  /** Sequence number of the next record of the journal. */
  next: number;
  /** The last reading. */
  last: StatisticsSample | undefined;
}

export class Recorder {
  readonly #ports: readonly Port[];
  readonly #health: readonly PortHealth[];
  readonly #groups: readonly Group[];
  readonly #groupOf: readonly Group[];
  readonly #samples: Sample[] = [];
  readonly #switches: QueueSwitch[] = [];
  #states: PortState[] = [];
  #sequence = 0;
  #number = 0;

  /** @param health one for each port */
  constructor(ports: readonly Port[], health: readonly PortHealth[]) {
    this.#ports = ports;
    this.#health = health;
    const groups = new Map<SharedMemory, Group>();
    this.#groupOf = ports.map((port, number) => {
      const group = groups.get(port.shared) ?? groupOf(port.shared);
      groups.set(port.shared, group);
      group.numbers.set(port.route.port, number);
      return group;
    });
    this.#groups = [...groups.values()];
  }

  /** The number of the last sample; 0 before the first. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The number of the last switch; 0 before the first. */
  get switchNumber(): number {
    return this.#number;
  }

  /** The ports as of the last sample. */
  get states(): readonly PortState[] {
    return this.#states;
  }

  /** Those with a higher number, oldest first, as far as they are kept. */
  samplesAfter(sequence: number): readonly Sample[] {
    return last(this.#samples, this.#sequence - sequence);
  }

  /** As {@link samplesAfter}. */
  switchesAfter(number: number): readonly QueueSwitch[] {
    return last(this.#switches, this.#number - number);
  }

  /** Reads everything once. */
  sample(): void {
    const readings = new Map(
      this.#groups.map((group) => {
        const now = sampleOf(group.memory);
        // The first has no rates: what was counted in the moment before would make a wild one.
        const before = group.last ?? now;
        group.last = now;
        this.#readJournal(group);
        return [group, { before, now }];
      }),
    );
    const rates = this.#ports.map((port, number) => {
      const { before, now } = readings.get(this.#groupOf[number]!)!;
      return ratesBetween(before, now, port.route.port);
    });
    const { nanos } = this.#groupOf[0]!.last!;
    const ports = rates.map(({ paths, drops }) => ({
      vf: flow(paths.vf),
      synthetic: flow(paths.synthetic),
      host: flow(paths.host),
      dropped: Math.round(Object.values(drops).reduce((all, packets) => all + packets, 0)),
    }));
    this.#samples.push({ sequence: ++this.#sequence, nanos, ports });
    if (this.#samples.length > KEPT_SAMPLES) this.#samples.shift();
    this.#states = this.#ports.map((port, number) => this.#state(port, number, rates[number]!));
  }

  #readJournal(group: Group): void {
    const records = group.journal.since(group.next);
    group.next = (records.at(-1)?.sequence ?? group.next - 1) + 1;
    for (const { sequence: _, port, ...record } of records) {
      const number = group.numbers.get(port);
      if (number === undefined) continue; // of a port that the page does not show
      this.#switches.push({ number: ++this.#number, port: number, ...record });
      if (this.#switches.length > KEPT_SWITCHES) this.#switches.shift();
    }
  }

  #state(port: Port, number: number, rates: PortRates): PortState {
    const { memory, last } = this.#groupOf[number]!;
    const statistics = last!.ports[port.route.port]!;
    const [worker] = memory.workers;
    const idle = MODES[memory.words[worker!.at('idleMode')]!]!;
    return {
      device: port.device,
      mac: port.mac,
      mode: port.configuration.mode ?? idle,
      linkUp: port.link.up,
      speedMbps: port.link.speedMbps ?? null,
      mtu: port.configuration.mtu,
      paths: pathsOf(port, statistics),
      queues: rates.queues,
      drops: Object.entries(losses(statistics))
        .filter(([, total]) => total > 0)
        .map(([reason, total]) => ({ reason, rate: rates.drops[reason] ?? 0, total })),
      handlerErrors: { rate: rates.handlerErrors, total: statistics.handlerErrors },
      problems: this.#health[number]!.problems(),
    };
  }
}

function groupOf(shared: SharedMemory): Group {
  const memory = Memory.attach(shared);
  return { memory, journal: new Journal(memory), numbers: new Map(), next: 0, last: undefined };
}

function pathsOf(port: Port, statistics: PortStatistics): PortState['paths'] {
  const open = PATHS.flatMap((path) => {
    const description = port.paths[path];
    if (description === undefined) return [];
    const { device, driver, mode } = description;
    const { rxPackets, txPackets } = statistics.paths[path];
    return [[path, { device, driver, mode, rxPackets, txPackets }]];
  });
  return Object.fromEntries(open);
}

/** Whole numbers: no picture shows more, and a client gets thousands of them. */
function flow({ rxPackets, rxBits, txPackets, txBits }: FlowRates): Flow {
  return [Math.round(rxPackets), Math.round(rxBits), Math.round(txPackets), Math.round(txBits)];
}

function last<T>(list: readonly T[], count: number): readonly T[] {
  return count <= 0 ? [] : list.slice(-count);
}
