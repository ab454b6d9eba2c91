/**
 * The map of a device's sockets, to which its XDP program redirects, and the gate: what happens to packets of a queue that
 * has no socket in the map. Coordinator only.
 *
 * The map has sockets only between {@link SocketMap.arm} and `disarm`. Before and after, the kernel keeps every packet.
 */
import type { Bpf } from '../../kernel/bpf.ts';
import { Unclaimed } from '../../kernel/programs.ts';
import type { Link } from '../../kernel/rtnetlink.ts';
import { everyStep } from '../every-step.ts';

export class SocketMap {
  readonly #bpf: Bpf;
  readonly #fds: { readonly map: number; readonly gate: number };
  readonly #netvsc: number;
  /** Whether the map has sockets. */
  armed = false;

  /**
   * @param fds descriptors of both maps, once they are open
   * @param netvsc ifindex of the NetVSC that the device is the VF of, or the device's own; 0: of none
   */
  constructor(bpf: Bpf, fds: { readonly map: number; readonly gate: number }, netvsc: number) {
    this.#bpf = bpf;
    this.#fds = fds;
    this.#netvsc = netvsc;
  }

  /**
   * Puts the sockets into the map, except those of stopped queues. A packet that comes to a stopped queue all the same is
   * passed to the kernel, and reaches the handler through the synthetic path. Where it would be dropped, the queue stays in
   * the map, and its worker handles it.
   *
   * @param sockets descriptor of each queue's socket
   */
  arm(link: Link, sockets: readonly number[], stopped: readonly number[]): void {
    const isOut = (queue: number): boolean => this.#passes(link) && stopped.includes(queue);
    // NB: in this order, no packet is dropped that comes meanwhile.
    sockets.forEach((fd, queue) => {
      if (!isOut(queue)) this.#bpf.updateMap(this.#fds.map, queue, fd);
    });
    this.armed = true;
    this.#setGate(link);
    for (const queue of sockets.keys()) if (isOut(queue)) this.#bpf.deleteMap(this.#fds.map, queue);
  }

  /** @param queues of the map */
  disarm(link: Link, queues: number): void {
    const { map, gate } = this.#fds;
    if (map < 0 || gate < 0) return; // closed, or a coordinator died before it had opened both
    this.armed = false;
    // A dead socket in the map drops packets (bpf_redirect_map falls back for empty slots only): each is removed before it
    // is closed. If the kernel refuses that, closing the link and the map follows anyway.
    everyStep([
      () => this.#setGate(link),
      ...Array.from({ length: queues }, (_, queue) => () => this.#bpf.deleteMap(map, queue)),
    ]);
  }

  /**
   * Sets the action for packets on queues without a socket. If the VF has joined the NetVSC, the kernel passes them on to
   * the NetVSC, and the handler gets them through the synthetic path. The same holds on one card alone. From any other
   * VF they would reach the machine and never the handler: while the port is armed they are dropped, and counted.
   */
  #setGate(link: Link): void {
    const drops = this.armed && !this.#passes(link);
    this.#bpf.setValue(this.#fds.gate, drops ? Unclaimed.DROP : Unclaimed.PASS);
  }

  #passes({ ifindex, master }: Link): boolean {
    return this.#netvsc !== 0 && (master === this.#netvsc || ifindex === this.#netvsc);
  }
}
