/**
 * The switch and the host outside, on the memory path: builds Ethernet frames, delivers them by the path
 * that the dataPathSwitch names, takes in what either path sends, and checks every byte that a host would.
 *
 * A flow belongs to one queue, as RSS would have it. Replies are taken from the synthetic path first: a
 * queue moves to the VF only when its synthetic transmissions are out, so this order keeps a flow's.
 * Frames for a path that is gone are lost, as on a switch that has not noticed; a queue without an empty
 * frame refuses, and the generator offers again. Belongs to the traffic thread.
 */
import { Path } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { MemoryPeer } from '../paths/memory/peer.ts';
import { monotonicNanos } from './clock.ts';
import type { DataPathSwitch, HostPath } from './data-path-switch.ts';
import { FrameForm } from './frame-form.ts';
import type { UdpOptions } from './udp.ts';
import type { Wire } from './wire.ts';

export interface OutsideOptions extends UdpOptions {
  readonly guestMac: string;
}

const MAC = '02:15:5d:77:00:01';
const ADDRESS = '10.77.0.1';
/** First of the ports that Linux too gives to sockets that ask for none. */
const EPHEMERAL = 32_768;
const COLLECT = 64;
/** There is nothing to sleep on: the answer to a packet comes some tens of microseconds later. */
const NAP_MILLIS = 0.2;

type OnPacket = (flow: number, sequence: number) => void;

export class MemoryOutside {
  readonly udp: Wire & { refused: number };
  readonly icmp: Wire;
  readonly #memory: Memory;
  readonly #dataPathSwitch: DataPathSwitch;
  readonly #form: FrameForm;
  readonly #peers = new Map<HostPath, (MemoryPeer | undefined)[]>();
  readonly #nap = new Int32Array(new SharedArrayBuffer(4));
  #sequence = 0;
  #onPacket: OnPacket = () => {};
  #received = 0;
  /** Pings that came back while UDP was collected. */
  #pings: number[] = [];

  constructor(memory: Memory, dataPathSwitch: DataPathSwitch, options: OutsideOptions) {
    this.#memory = memory;
    this.#dataPathSwitch = dataPathSwitch;
    this.#form = new FrameForm({
      ...options,
      ...{ firstPort: options.firstPort || EPHEMERAL, mac: MAC, from: ADDRESS },
    });
    for (const path of [Path.SYNTHETIC, Path.VF] as const) this.#peers.set(path, []);
    this.udp = {
      refused: 0,
      send: (flow, first, count) => this.#send(flow, first, count),
      receive: (onPacket) => this.#receive(onPacket),
      wait: (millis) => void Atomics.wait(this.#nap, 0, 0, Math.min(millis, NAP_MILLIS)),
      close: () => {},
    };
    this.icmp = {
      send: (_, first, count) => this.#deliver(this.#form.pings, first, count),
      receive: (onPacket) => this.#receivePings(onPacket),
      wait: this.udp.wait,
      close: () => {},
    };
  }

  #send(flow: number, first: number, count: number): number {
    const went = this.#deliver(flow, first, count);
    this.udp.refused += count - went;
    return went;
  }

  #deliver(flow: number, first: number, count: number): number {
    const peer = this.#peer(this.#dataPathSwitch.path, flow % this.#memory.layout.geometry.queues);
    if (peer === undefined) return count;
    this.#sequence = first;
    const now = monotonicNanos();
    const { bytes, view } = this.#memory;
    const went = peer.deliver(count, (at) => this.#form.write(bytes, view, at, flow, this.#sequence++, now));
    return peer.alive || went > 0 ? went : count;
  }

  #receive(onPacket: OnPacket): number {
    this.#obey();
    this.#onPacket = onPacket;
    this.#received = 0;
    this.#collect();
    return this.#received;
  }

  #receivePings(onPacket: OnPacket): number {
    const came = this.#pings;
    if (came.length === 0) return 0;
    this.#pings = [];
    for (const sequence of came) onPacket(0, sequence);
    return came.length;
  }

  #collect(): void {
    for (const path of [Path.SYNTHETIC, Path.VF] as const) {
      for (let queue = 0; queue < this.#memory.layout.geometry.queues; queue++) {
        const peer = this.#peer(path, queue);
        while (peer !== undefined && peer.collect(COLLECT, this.#take) === COLLECT);
      }
    }
  }

  readonly #take = (at: number, length: number): void => {
    const flow = this.#form.read(this.#memory.view, at, length);
    if (flow === this.#form.pings) {
      this.#pings.push(this.#form.sequence);
      return;
    }
    this.#received++;
    this.#onPacket(flow, this.#form.sequence);
  };

  /** Answers an order once nothing is under way by the path that was left. */
  #obey(): void {
    const order = this.#dataPathSwitch.open;
    if (order === 0) return;
    const left = this.#dataPathSwitch.path === Path.VF ? Path.SYNTHETIC : Path.VF;
    const underWay = this.#peers.get(left)!.some((peer) => peer !== undefined && peer.undelivered > 0);
    if (!underWay) this.#dataPathSwitch.settle(order);
  }

  /** The peer of a queue, attached anew when the path has come back; undefined while it is away. */
  #peer(path: HostPath, queue: number): MemoryPeer | undefined {
    const peers = this.#peers.get(path)!;
    const known = peers[queue];
    if (known?.alive) return known;
    peers[queue] = MemoryPeer.attach(this.#memory, 0, queue, path);
    return peers[queue];
  }
}
