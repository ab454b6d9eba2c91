/**
 * The switch and the outside host on the memory path: builds Ethernet frames, delivers them through the path that
 * DataPathSwitch names, and receives and checks what both paths send.
 *
 * A flow belongs to one queue, as with RSS. Replies are received from the synthetic path first: a queue moves to the VF only
 * after its synthetic transmissions have left, so flows stay in order. Frames for a path that has vanished are lost, as on a
 * switch that has not noticed it. A queue without an empty frame refuses a packet, and the generator sends it again. One
 * thread, the traffic thread.
 */
import type { SharedMemory } from '../memory/geometry.ts';
import { Path } from '../memory/layout.ts';
import { Memory, nowNanos } from '../memory/shared.ts';
import { MemoryPeer } from '../paths/memory/peer.ts';
import { FrameCodec } from './frame-codec.ts';
import type { Wire } from './generator.ts';
import { DataPathSwitch, type HostPath } from './memory-nic.ts';
import { generate, type SenderMessage, type TrafficConfig } from './sender.ts';
import type { UdpOptions } from './udp.ts';

/** The `workerData` of a traffic thread on the memory path. */
export interface MemorySenderConfig extends TrafficConfig {
  /** The memory of the port, which is its first. */
  readonly shared: SharedMemory;
  readonly guestMac: string;
  /** {@link DataPathSwitch.buffer} */
  readonly dataPathSwitch: SharedArrayBuffer;
}

const MAC = '02:15:5d:77:00:01';
const ADDRESS = '10.77.0.1';
/** The first ephemeral port, as on Linux. */
const EPHEMERAL = 32_768;
const COLLECT = 64;
/** Nothing wakes a sleeping thread here, and the answer to a packet comes some tens of microseconds later. */
const MAX_SLEEP_MILLIS = 0.2;

type OnPacket = (flow: number, sequence: number) => void;

class MemoryOutside {
  readonly udp: Wire & { refused: number };
  readonly icmp: Wire;
  readonly #memory: Memory;
  readonly #dataPathSwitch: DataPathSwitch;
  readonly #codec: FrameCodec;
  readonly #peers = new Map<HostPath, (MemoryPeer | undefined)[]>();
  readonly #sleepWord = new Int32Array(new SharedArrayBuffer(4));
  #sequence = 0;
  #onPacket: OnPacket = () => {};
  #received = 0;
  /** Sequence numbers of pings that came back while UDP was received. */
  #pings: number[] = [];

  constructor(
    memory: Memory,
    dataPathSwitch: DataPathSwitch,
    options: UdpOptions & { readonly guestMac: string },
  ) {
    this.#memory = memory;
    this.#dataPathSwitch = dataPathSwitch;
    this.#codec = new FrameCodec({
      ...options,
      firstPort: options.firstPort || EPHEMERAL,
      mac: MAC,
      from: ADDRESS,
    });
    for (const path of [Path.SYNTHETIC, Path.VF] as const) this.#peers.set(path, []);
    this.udp = {
      refused: 0,
      send: (flow, first, count) => this.#send(flow, first, count),
      receive: (onPacket) => this.#receive(onPacket),
      wait: (millis) => void Atomics.wait(this.#sleepWord, 0, 0, Math.min(millis, MAX_SLEEP_MILLIS)),
      close: () => {},
    };
    this.icmp = {
      send: (_, first, count) => this.#deliver(this.#codec.pings, first, count),
      receive: (onPacket) => this.#receivePings(onPacket),
      wait: this.udp.wait,
      close: () => {},
    };
  }

  #send(flow: number, first: number, count: number): number {
    const taken = this.#deliver(flow, first, count);
    this.udp.refused += count - taken;
    return taken;
  }

  #deliver(flow: number, first: number, count: number): number {
    const peer = this.#peer(this.#dataPathSwitch.path, flow % this.#memory.layout.geometry.queues);
    if (peer === undefined) return count;
    this.#sequence = first;
    const now = nowNanos();
    const { bytes, view } = this.#memory;
    const taken = peer.deliver(count, (at) =>
      this.#codec.write(bytes, view, at, flow, this.#sequence++, now),
    );
    return peer.alive || taken > 0 ? taken : count;
  }

  #receive(onPacket: OnPacket): number {
    this.#answerSwitch();
    this.#onPacket = onPacket;
    this.#received = 0;
    this.#collect();
    return this.#received;
  }

  #receivePings(onPacket: OnPacket): number {
    const pings = this.#pings;
    if (pings.length === 0) return 0;
    this.#pings = [];
    for (const sequence of pings) onPacket(0, sequence);
    return pings.length;
  }

  #collect(): void {
    for (const path of [Path.SYNTHETIC, Path.VF] as const) {
      for (let queue = 0; queue < this.#memory.layout.geometry.queues; queue++) {
        const peer = this.#peer(path, queue);
        while (peer !== undefined && peer.collect(COLLECT, this.#onFrame) === COLLECT);
      }
    }
  }

  readonly #onFrame = (at: number, length: number): void => {
    const flow = this.#codec.read(this.#memory.view, at, length);
    if (flow === this.#codec.pings) {
      this.#pings.push(this.#codec.sequence);
      return;
    }
    this.#received++;
    this.#onPacket(flow, this.#codec.sequence);
  };

  /** Completes a move of the data path when nothing is under way on the other path. */
  #answerSwitch(): void {
    const request = this.#dataPathSwitch.pending;
    if (request === 0) return;
    const other = this.#dataPathSwitch.path === Path.VF ? Path.SYNTHETIC : Path.VF;
    const underWay = this.#peers.get(other)!.some((peer) => peer !== undefined && peer.undelivered > 0);
    if (!underWay) this.#dataPathSwitch.finish(request);
  }

  /** The peer of a queue; another one after the path has come back, undefined while it is away. */
  #peer(path: HostPath, queue: number): MemoryPeer | undefined {
    const peers = this.#peers.get(path)!;
    const known = peers[queue];
    if (known?.alive) return known;
    peers[queue] = MemoryPeer.attach(this.#memory, 0, queue, path);
    return peers[queue];
  }
}

/** Runs the traffic thread over the memory path, with the same generators as over the kernel. */
export function sendInMemory(config: MemorySenderConfig, post: (message: SenderMessage) => void): void {
  const { shared, guestMac, dataPathSwitch, udp } = config;
  const outside = new MemoryOutside(Memory.attach(shared), new DataPathSwitch(dataPathSwitch), {
    ...udp,
    guestMac,
  });
  generate(outside, config, post);
}
