/**
 * The virtual NIC of a port on the memory path, as its host sees it: Nic's acts without a kernel.
 *
 * Belongs to the thread that opened the port. The switch is the traffic thread, so the data path only moves
 * while traffic runs. A surprise is the same as under the kernel: the device goes, the switch still points
 * at it, and what is sent there is lost until the host notices.
 */
import { Path } from '../memory/layout.ts';
import { monotonicNanos } from './clock.ts';
import type { NicEvent, NicEventKind } from './context.ts';
import { DataPathSwitch } from './data-path-switch.ts';
import { until } from './wait.ts';

/** The acts of a host, whatever it is made of: what Nic and {@link MemoryNic} have in common. */
export interface HostNic {
  readonly guestAddress: string;
  readonly events: readonly NicEvent[];
  /** Name of the VF, while one is plugged in. */
  readonly vf: string | undefined;
  plug(options?: { name?: string }): Promise<void>;
  moveDataPath(to: 'vf' | 'synthetic'): Promise<void>;
  unplug(): Promise<void>;
  surprise(): void;
  hostNotices(): Promise<void>;
}

/** The part of a Port that its host needs. */
interface MemoryPort {
  readonly device: string;
  plug(path: 'vf', name: string): void;
  unplug(path: 'vf'): void;
}

const SETTLE_MILLIS = 5000;

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
    this.#note('plug', name);
    this.#port.plug('vf', name);
    this.#vf = name;
  }

  /** @throws ERR_TIMEOUT when no traffic thread obeys */
  async moveDataPath(to: 'vf' | 'synthetic'): Promise<void> {
    this.#note(`datapath-${to}`, to === 'vf' ? (this.#vf ?? 'vf') : this.#port.device);
    const order = this.dataPathSwitch.order(to === 'vf' ? Path.VF : Path.SYNTHETIC);
    await until(`answer of the switch`, SETTLE_MILLIS, () => this.dataPathSwitch.settled === order);
  }

  /** The data path first, and the VF when nothing is under way to it any more. */
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
    this.#note(kind, this.#vf ?? 'vf');
    this.#port.unplug('vf');
    this.#vf = undefined;
  }

  #note(kind: NicEventKind, device: string): void {
    this.events.push({ kind, atNanos: monotonicNanos(), device });
  }
}
