/**
 * The virtual NIC of a port on the memory path, as its host sees it: the counterpart of Nic without a kernel.
 *
 * Belongs to the thread that opened the port. The switch is the traffic thread, so the data path moves only while traffic
 * runs. A surprise is the same as in a lab with kernel devices: the VF vanishes, the switch still points at it, and packets
 * that are sent there are lost until the host notices.
 */
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import type { HostNic, NicEvent, NicEventKind } from './nic.ts';
import { until } from './wait.ts';

/** What the host needs of a Port. */
interface MemoryPort {
  readonly device: string;
  plug(path: 'vf', name: string): void;
  unplug(path: 'vf'): void;
}

const SWITCH_MILLIS = 5000;
const PATH = 0;
const REQUESTED = 1;
const DONE = 2;

export type HostPath = typeof Path.SYNTHETIC | typeof Path.VF;

export class MemoryNic implements HostNic {
  static readonly guestAddress = '10.77.0.2';
  readonly guestAddress = MemoryNic.guestAddress;
  readonly events: NicEvent[] = [];
  readonly dataPathSwitch = new DataPathSwitch();
  readonly #port: MemoryPort;
  #vf: string | undefined;

  constructor(port: MemoryPort) {
    this.#port = port;
  }

  get vf(): string | undefined {
    return this.#vf;
  }

  async plug({ name = 'vf0' }: { name?: string } = {}): Promise<void> {
    this.#record('plug', name);
    this.#port.plug('vf', name);
    this.#vf = name;
  }

  /** @throws ERR_TIMEOUT if no traffic thread runs */
  async moveDataPath(to: 'vf' | 'synthetic'): Promise<void> {
    this.#record(`datapath-${to}`, to === 'vf' ? (this.#vf ?? 'vf') : this.#port.device);
    const request = this.dataPathSwitch.move(to === 'vf' ? Path.VF : Path.SYNTHETIC);
    await until('answer of the switch', SWITCH_MILLIS, () => this.dataPathSwitch.done === request);
  }

  /** Moves the data path, and removes the VF when nothing is under way to it. */
  async unplug(): Promise<void> {
    await this.moveDataPath('synthetic');
    this.#remove('delete');
  }

  surprise(): void {
    this.#remove('surprise');
  }

  async hostNotices(): Promise<void> {
    await this.moveDataPath('synthetic');
  }

  #remove(kind: 'delete' | 'surprise'): void {
    this.#record(kind, this.#vf ?? 'vf');
    this.#port.unplug('vf');
    this.#vf = undefined;
  }

  #record(kind: NicEventKind, device: string): void {
    this.events.push({ kind, atNanos: nowNanos(), device });
  }
}

/**
 * The words by which the host moves the data path of the switch, which is the traffic thread.
 *
 * A request is a path and a count. The switch repeats the count when all later packets take that path and none is under way
 * on the other. In a lab with kernel devices the host reads that from counters.
 */
export class DataPathSwitch {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer(3 * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    Atomics.compareExchange(this.#words, PATH, Path.NONE, Path.SYNTHETIC);
  }

  /** The path of packets for the guest. */
  get path(): HostPath {
    return Atomics.load(this.#words, PATH) as HostPath;
  }

  /** Called by the host. Returns the number of the request, which `done` will reach. */
  move(path: HostPath): number {
    Atomics.store(this.#words, PATH, path); // before the count: a reader of the new count sees the new path
    return Atomics.add(this.#words, REQUESTED, 1) + 1;
  }

  /** The last request that the switch has carried out. */
  get done(): number {
    return Atomics.load(this.#words, DONE);
  }

  /** Called by the switch: the request that is not done yet, or 0. */
  get pending(): number {
    const requested = Atomics.load(this.#words, REQUESTED);
    return requested === this.done ? 0 : requested;
  }

  finish(request: number): void {
    Atomics.store(this.#words, DONE, request);
  }
}
