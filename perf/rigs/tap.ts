/**
 * The kernel's side of a tap that is measured: what makes packets for it, and what counts them.
 *
 * The figures are the kernel's own counters of the tap, so that every variant is counted in the same way, for any program
 * that drives the tap: a packet was read when the tap counts it as `tx_packets`. The tap is in the guest's namespace of a lab.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { QueueWorkers } from '../../src/coordinator/queue-workers.ts';
import { check, TwinpathError } from '../../src/errors.ts';
import { Assembler } from '../../src/kernel/assembler.ts';
import { Bpf } from '../../src/kernel/bpf.ts';
import type { Link, LinkStatistics } from '../../src/kernel/link.ts';
import { pageSize } from '../../src/kernel/machine.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { tcRedirect } from '../../src/kernel/programs.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim, type Shim } from '../../src/kernel/shim.ts';
import { Lab } from '../../src/lab/host.ts';
import { until } from '../../src/lab/wait.ts';
import { ownerWord, pathBit } from '../../src/memory/bit-fields.ts';
import { Driver, Path, Reader } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { maxSentBytes } from '../../src/net/packet-size.ts';
import { limitSentBytes } from '../../src/paths/packet-limit.ts';
import { openTap } from '../../src/paths/tap/open.ts';
import { geometryOf, single, validate } from '../../src/settings.ts';
import { FIRST_CPU, LAST_CPU, Peer } from '../peers/program.ts';
import { stopwatch } from './timing.ts';

/** Packets that circulate: four bursts of the largest kind, and fewer than any tap holds. */
const CIRCULATING = 256;
/** After this V8 has compiled what matters, and the queues are as full as they become. */
const WARM_UP_MILLIS = 500;
/** For a device to come up. */
const UP_MILLIS = 5000;
/** Of a tap whose reader is timed: twice what peers/tap.c puts there. */
const QUEUE_LENGTH = 4096;

/** Of a tap without a port. */
const MTU = 1500;

/** TC_ACT_SHOT */
const dropAll = (): Uint8Array => new Assembler().movImm(0, 2).exit().assemble();

export class TapWire {
  readonly lab: Lab;
  readonly shim: Shim;
  readonly netlink: RtNetlink;
  readonly #peers: Peer[] = [];
  readonly #links: number[] = [];

  private constructor(lab: Lab, shim: Shim) {
    this.lab = lab;
    this.shim = shim;
    this.netlink = this.inside(() => RtNetlink.open(shim));
  }

  /** Builds a lab around `work`, and takes everything down. */
  static async around<T>(work: (wire: TapWire) => Promise<T>): Promise<T> {
    const lab = await Lab.create({ queues: 1 });
    const wire = new TapWire(lab, loadShim());
    try {
      return await work(wire);
    } finally {
      await wire.#close();
    }
  }

  /** In the namespace where the taps are. */
  inside<T>(work: () => T): T {
    return inNamespace(this.shim, this.lab.guest, work);
  }

  /** The device of that name, once it is up. @throws Error when it does not come up */
  async tap(name: string): Promise<Link> {
    await until(`device ${name} that is up`, UP_MILLIS, () => this.netlink.link(name)?.carrier === true);
    return this.netlink.link(name)!;
  }

  /** Starts a loop in C that drives a tap in the namespace, until this wire closes. */
  drive(name: string, how: 'echo' | 'receive'): void {
    this.#peers.push(Peer.start(this.lab.guest, 'tap', FIRST_CPU, name, how));
  }

  /**
   * Million packets read from the tap a second when packets circulate: what is written to the tap is received from it again.
   * One core does all of it: there is no generator, and nothing is lost.
   */
  async echoed(name: string, seconds: number): Promise<number> {
    const { ifindex } = await this.tap(name);
    this.#attach(ifindex, 'perf_loop', tcRedirect(ifindex), this.lab.guest);
    await this.#feed(name, 'once', CIRCULATING);
    const { read, written, dropped } = await this.#measure(ifindex, seconds);
    if (dropped > 0)
      throw new Error(`${dropped} packets of the loop were dropped: it no longer is what it was`);
    if (Math.abs(read - written) > 2 * CIRCULATING) throw new Error(`${read} read, but ${written} written`);
    return (read / seconds) * 1e-6;
  }

  /** Million packets read from the tap a second out of a full queue, while the reader works alone: see peers/tap.c. */
  async received(name: string, seconds: number): Promise<number> {
    const { ifindex } = await this.tap(name);
    this.netlink.setLink(ifindex, { txQueueLength: QUEUE_LENGTH });
    await this.#feed(name, 'drain', FIRST_CPU, WARM_UP_MILLIS);
    const printed = await this.#feed(name, 'drain', FIRST_CPU, seconds * 1000);
    const [packets = 0, nanos = 0] = printed.split(' ').map(Number);
    return (packets / nanos) * 1e3;
  }

  /**
   * Million packets a second that come back to the host's end of the NetVSC, to which the tap is connected: they are made
   * there on the other core, so that some always wait in the tap, and dropped there when they are back.
   */
  async reflected(name: string, seconds: number): Promise<number> {
    await this.tap(name);
    const { host } = this.lab;
    const end = inNamespace(this.shim, host, () => RtNetlink.open(this.shim));
    try {
      const { ifindex } = end.link('s0')!;
      this.#attach(ifindex, 'perf_drop', dropAll(), host);
      this.#peers.push(Peer.start(this.lab.guest, 'tap', LAST_CPU, name, 'keep', host, ifindex));
      const { written } = await this.#measure(ifindex, seconds, end);
      return (written / seconds) * 1e-6;
    } finally {
      end.close();
    }
  }

  /** Makes packets for the tap on the other core. Returns what the program prints. */
  #feed(name: string, ...task: readonly (string | number)[]): Promise<string> {
    return Peer.start(this.lab.guest, 'tap', LAST_CPU, name, ...task).output();
  }

  async #measure(
    ifindex: number,
    seconds: number,
    netlink = this.netlink,
  ): Promise<Record<'read' | 'written' | 'dropped', number>> {
    const look = (): LinkStatistics => {
      const found = netlink.link(ifindex)?.statistics;
      if (found === undefined) throw new Error('the device is gone, or has no counters');
      return found;
    };
    await sleep(WARM_UP_MILLIS);
    const before = look();
    const elapsed = stopwatch();
    await sleep(seconds * 1000);
    const after = look();
    const scale = (seconds * 1000) / elapsed().millis;
    const read = (after.txPackets - before.txPackets) * scale;
    const written = (after.rxPackets - before.rxPackets) * scale;
    if (read === 0) throw new Error('no packets came');
    return { read, written, dropped: after.txDropped - before.txDropped };
  }

  /** A program for what arrives at a device, until this wire closes. */
  #attach(ifindex: number, name: string, code: Uint8Array, namespace: string): void {
    const bpf = new Bpf(this.shim);
    const program = bpf.load('sched_cls', name, code);
    const link = inNamespace(this.shim, namespace, () => bpf.attachTcx(program, ifindex, 'ingress'));
    this.shim.close(program);
    this.#links.push(check(link, 'bpf(LINK_CREATE, tcx)'));
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#peers.map((peer) => peer.stop()));
    for (const link of this.#links) this.shim.close(link);
    this.netlink.close();
    await this.lab.close();
  }
}

/**
 * Serves a tap called `twinpath0` with a handler of src/handlers while `work` runs. The tap, the worker thread, its path queue and
 * its handler are those of a port with one queue. There is no port, NetVSC or coordinator: a port's tap takes only the packets that
 * its NetVSC has received, and its coordinator reports programs that come before its own.
 */
export async function withLoneTap<T>(
  wire: TapWire,
  handler: string,
  work: (name: string) => Promise<T>,
): Promise<T> {
  const { shim, netlink } = wire;
  const url = new URL(`../../src/handlers/${handler}.js`, import.meta.url);
  const where = { network: 'memory', queues: 1, mode: 'poll', rss: 'device', pin: true } as const;
  const settings = validate(single({ ...where, handler: url }));
  const memory = Memory.create(geometryOf(settings, pageSize()));
  const { words, layout } = memory;
  const slot = memory.slot({ port: 0, queue: 0, path: Path.SYNTHETIC });
  const tap = wire.inside(() => openTap(shim, netlink, { template: 'twinpath%d', queues: 1, mtu: MTU }));
  const bells = (['doorbellFd', 'supervisorFd'] as const).map((field) => {
    const fd = check(shim.eventfd(), 'eventfd2');
    memory.workers[0]![field] = fd;
    return fd;
  });
  limitSentBytes(memory, 0, Path.SYNTHETIC, maxSentBytes(MTU, layout.geometry.frameSize));
  slot.open(Driver.TAP, { fd: tap.fds[0]!, reader: Reader.ASKED, useUring: 1 });
  const owner = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
  Atomics.store(words, memory.queue(0, 0).at('owner'), owner);

  setMac(memory, 0, '02:00:00:00:00:01');
  let failure: unknown;
  const workers = new QueueWorkers(memory.shared, settings, {
    report: ({ kind, event }) => {
      if (kind === 'error') failure ??= TwinpathError.from(event);
      if (kind === 'worker' && event.state === 'died')
        failure ??= new Error(`the worker died: ${event.detail}`);
    },
    line: () => {},
    gaveUp: () => {},
    restored: () => {},
    gone: () => {},
  });
  await workers.start();
  try {
    const result = await work('twinpath0');
    if (failure !== undefined) throw failure;
    const refused = slot.uringErrno;
    if (refused !== 0) throw new Error(`this kernel refused io_uring: errno ${refused}`);
    return result;
  } finally {
    memory.control.stopAll();
    await workers.stop();
    for (const fd of [...bells, ...tap.fds]) shim.close(fd);
  }
}
