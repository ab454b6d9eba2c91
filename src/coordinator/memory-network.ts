/**
 * A port without devices: its two paths are rings in memory. The application's thread plays the host, and plugs and unplugs
 * them. Coordinator thread only.
 */
import { Path, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { PathDevice } from '../paths/device.ts';
import { MemoryDevice } from '../paths/memory/device.ts';
import { LoopDevice } from '../paths/memory/loop.ts';
import type { ReplaySettings } from '../replay-settings.ts';
import type { Endpoint, PortNetwork } from './network.ts';

export interface MemoryHoldings {
  readonly endpoints: readonly (readonly [PathId, Endpoint])[];
  readonly plugged: number;
}

export class MemoryNetwork implements PortNetwork {
  readonly device: string;
  readonly mac: string;
  readonly #memory: Memory;
  readonly #port: number;
  #endpoints = new Map<PathId, Endpoint>();
  readonly #devices = new Map<PathId, MemoryDevice>();
  readonly #loop: boolean;
  readonly #recorded: boolean;
  #plugged = 0;

  /**
   * @param loop whether each path returns what it transmits, and has no peer
   * @param replay the peer plays a file: it gives the packets' times, and the port the file's address
   */
  constructor(memory: Memory, port: number, loop = false, replay?: Pick<ReplaySettings, 'mac'>) {
    this.#loop = loop;
    this.#memory = memory;
    this.#port = port;
    this.device = `memory${port}`;
    this.#recorded = replay !== undefined;
    this.mac = replay?.mac ?? `02:00:00:00:00:${(port + 1).toString(16).padStart(2, '0')}`;
    this.plug(Path.SYNTHETIC, this.device);
  }

  get holdings(): MemoryHoldings {
    return { endpoints: [...this.#endpoints], plugged: this.#plugged };
  }

  /** Takes over the {@link holdings} of another coordinator's network. */
  resume({ endpoints, plugged }: MemoryHoldings): this {
    this.#endpoints = new Map(endpoints);
    this.#plugged = plugged;
    return this;
  }

  plug(path: PathId, name: string): void {
    this.#endpoints.set(path, { key: ++this.#plugged, name, up: true, carrier: true });
  }

  /** Removes the device, and its peers, before anything else happens. Returns its key. */
  unplug(path: PathId): number | undefined {
    const key = this.#endpoints.get(path)?.key;
    this.#endpoints.delete(path);
    this.#devices.get(path)?.disarm();
    return key;
  }

  observe(): [] {
    return [];
  }

  endpoint(path: PathId): Endpoint | undefined {
    return this.#endpoints.get(path);
  }

  query(path: PathId): Endpoint | undefined {
    return this.#endpoints.get(path);
  }

  make(path: PathId, { name }: Endpoint): PathDevice {
    if (this.#loop) return new LoopDevice(this.#memory, this.#port, path, name);
    const device = new MemoryDevice(this.#memory, this.#port, path, name, this.#recorded);
    this.#devices.set(path, device);
    return device;
  }

  adopt(path: PathId, { key }: Pick<Endpoint, 'key'>): PathDevice {
    const name = this.#endpoints.get(path)?.name ?? this.device;
    return this.make(path, { key, name, up: true, carrier: true });
  }
}
