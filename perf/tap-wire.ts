/**
 * The kernel's side of a tap that is measured: what makes packets for it, and what counts them.
 *
 * Whoever drives the tap, the figures are the kernel's own counters of it, so that every side is counted in the
 * same way: a packet was read when the tap says `tx_packets`. The tap lies in a network namespace of a lab.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { check } from '../src/errors.ts';
import { Assembler } from '../src/kernel/assembler.ts';
import { Bpf } from '../src/kernel/bpf.ts';
import type { Link, LinkStatistics } from '../src/kernel/link.ts';
import { inNamespace } from '../src/kernel/namespace.ts';
import { tcRedirect } from '../src/kernel/programs.ts';
import { RtNetlink } from '../src/kernel/rtnetlink.ts';
import { loadShim, type Shim } from '../src/kernel/shim.ts';
import { Lab } from '../src/lab/host.ts';
import { peerProgram } from './peers/program.ts';

/** Packets that circulate, or wait in the tap: four bursts of the largest kind, and fewer than any tap holds. */
const CIRCULATING = 256;
/** V8 has compiled what matters after this, and the queues are as full as they become. */
const WARM_UP_MILLIS = 500;
const PATIENCE_MILLIS = 5000;
/** What the taps hold whose reader is timed: twice what tap-feed puts there. */
const QUEUE_LENGTH = 4096;

/** The CPU of whoever drives the tap: where a port with `pin` has its first worker. Packets are made on the last. */
export const DRIVING_CPU = 0;
const FEEDING_CPU = cpus().length - 1;

const run = promisify(execFile);

/** TC_ACT_SHOT */
const dropAll = (): Uint8Array => new Assembler().movImm(0, 2).exit().assemble();

export class TapWire {
  readonly lab: Lab;
  readonly shim: Shim;
  readonly netlink: RtNetlink;
  readonly #children: ChildProcess[] = [];
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

  /** The device of that name, once it is there and up. */
  async tap(name: string): Promise<Link> {
    const deadline = performance.now() + PATIENCE_MILLIS;
    for (;;) {
      const link = this.netlink.link(name);
      if (link?.carrier) return link;
      if (performance.now() > deadline) throw new Error(`the device ${name} did not come up`);
      await sleep(10);
    }
  }

  /** Starts a program of perf/peers in the namespace; it ends with this wire. */
  start(program: string, args: readonly string[]): ChildProcess {
    const command = ['netns', 'exec', this.lab.guest, peerProgram(program), ...args];
    const child = spawn('ip', command, { stdio: ['pipe', 'ignore', 'inherit'] });
    this.#children.push(child);
    return child;
  }

  /**
   * Packets read from the tap a second when what is written to it comes straight back up, and packets circulate. One
   * core does all of it: nobody generates, nobody waits, nothing is lost.
   */
  async echoed(name: string, seconds: number): Promise<number> {
    const { ifindex } = await this.tap(name);
    this.#attach(ifindex, 'perf_loop', tcRedirect(ifindex), this.lab.guest);
    await this.#feed(name, 'once', String(CIRCULATING));
    const { read, written, dropped } = await this.#measure(ifindex, seconds);
    if (dropped > 0)
      throw new Error(`${dropped} packets of the loop were dropped: it no longer is what it was`);
    if (Math.abs(read - written) > 2 * CIRCULATING) throw new Error(`${read} read, but ${written} written`);
    return (read / seconds) * 1e-6;
  }

  /** Packets read from the tap a second out of a full queue, while nobody else works: see peers/tap-feed.c. */
  async received(name: string, seconds: number): Promise<number> {
    const { ifindex } = await this.tap(name);
    this.netlink.setLink(ifindex, { txQueueLength: QUEUE_LENGTH });
    await this.#feed(name, 'drain', String(DRIVING_CPU), String(WARM_UP_MILLIS));
    const told = await this.#feed(name, 'drain', String(DRIVING_CPU), String(seconds * 1000));
    const [packets = 0, nanos = 0] = told.split(' ').map(Number);
    return (packets / nanos) * 1e3;
  }

  /**
   * Packets a second that come back to the host's end of the NetVSC, behind which the tap lies: they are made there on
   * the other core, some always waiting in the tap, and dropped there when they are back.
   */
  async reflected(name: string, seconds: number): Promise<number> {
    await this.tap(name);
    const { host } = this.lab;
    const end = inNamespace(this.shim, host, () => RtNetlink.open(this.shim));
    try {
      const { ifindex } = end.link('s0')!;
      this.#attach(ifindex, 'perf_drop', dropAll(), host);
      this.start('tap-feed', [String(FEEDING_CPU), name, 'keep', host, String(ifindex)]);
      const { written } = await this.#measure(ifindex, seconds, end);
      return (written / seconds) * 1e-6;
    } finally {
      end.close();
    }
  }

  /** What tap-feed prints. */
  async #feed(name: string, ...task: readonly string[]): Promise<string> {
    const command = ['netns', 'exec', this.lab.guest, peerProgram('tap-feed'), String(FEEDING_CPU), name];
    const { stdout } = await run('ip', [...command, ...task]);
    return stdout;
  }

  async #measure(
    ifindex: number,
    seconds: number,
    netlink = this.netlink,
  ): Promise<{ read: number; written: number; dropped: number }> {
    const look = (): LinkStatistics => {
      const found = netlink.link(ifindex)?.statistics;
      if (found === undefined) throw new Error('the device has gone, or has no counters');
      return found;
    };
    await sleep(WARM_UP_MILLIS);
    const before = look();
    const began = process.hrtime.bigint();
    await sleep(seconds * 1000);
    const after = look();
    const scale = (seconds * 1e9) / Number(process.hrtime.bigint() - began);
    const read = (after.txPackets - before.txPackets) * scale;
    if (read === 0) throw new Error('no packets came');
    return {
      read,
      written: (after.rxPackets - before.rxPackets) * scale,
      dropped: after.txDropped - before.txDropped,
    };
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
    for (const child of this.#children) child.stdin?.end();
    for (const child of this.#children) {
      for (let tries = 0; child.exitCode === null && tries < 100; tries++) await sleep(10);
      child.kill('SIGKILL');
    }
    for (const link of this.#links) this.shim.close(link);
    this.netlink.close();
    await this.lab.close();
  }
}
