/**
 * DPDK's testpmd as a peer: started on one core, driven by its own prompt, asked for its counters.
 *
 * `--in-memory` keeps its files to itself, so several may run; its memory is in huge pages. The forwarding core is the last
 * CPU unless the options name another; the thread of the prompt sleeps. It ends when its standard input does, so it does
 * not outlive this process. See https://doc.dpdk.org/guides-22.11/testpmd_app_ug/
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../../src/errors.ts';
import { growth } from '../rigs/timing.ts';
import { LAST_CPU, missing, Peer } from './program.ts';

export interface TestpmdOptions {
  /** `--vdev` arguments, for instance `net_ring0`. */
  readonly vdevs: readonly string[];
  readonly forward: 'macswap' | 'io' | 'rxonly';
  /** Packets a burst, 1 to 512. Default 32. */
  readonly burst?: number;
  /** Bursts sent before forwarding begins: the packets that circulate. Default 0. */
  readonly txFirst?: number;
  /** Name of a network namespace. Default: this process's. */
  readonly namespace?: string;
  /** Packet buffers. Default 8192. */
  readonly mbufs?: number;
  /** CPU of the forwarding thread. Default: the last one. */
  readonly core?: number;
  readonly extra?: readonly string[];
}

const PROGRAM = 'dpdk-testpmd';
/** 2 MiB each: the packet pool, and what DPDK's environment needs itself. */
const PAGES = 128;
const START_MILLIS = 20_000;
const ANSWER_MILLIS = 5000;

export class Testpmd {
  readonly #peer: Peer;

  private constructor(peer: Peer) {
    this.#peer = peer;
  }

  /** Runs it, forwarding, while `work` does. @throws Error, saying how to install it when it is missing */
  static async around<T>(options: TestpmdOptions, work: (testpmd: Testpmd) => Promise<T>): Promise<T> {
    if (spawnSync(PROGRAM, ['--help']).error !== undefined) throw missing(PROGRAM);
    const { vdevs, forward, burst = 32, txFirst = 0, namespace, mbufs = 8192 } = options;
    const { core = LAST_CPU, extra = [] } = options;
    const main = core === 0 ? LAST_CPU : 0;
    const eal = `-l ${main},${core} --main-lcore ${main} --in-memory --no-pci --no-telemetry -m 192`;
    const own = `--interactive --forward-mode=${forward} --burst=${burst} --total-num-mbufs=${mbufs}`;
    const devices = vdevs.map((vdev) => `--vdev=${vdev}`);
    const args = [...eal.split(' '), ...devices, '--', ...own.split(' '), ...extra];
    const before = hugePages();
    reserve(PAGES);
    // Into a pipe it would write only when its buffer is full.
    const testpmd = new Testpmd(Peer.inNamespace(namespace, 'stdbuf', '-oL', PROGRAM, ...args));
    try {
      await testpmd.#until(/testpmd>/, START_MILLIS);
      await testpmd.#ask(txFirst > 0 ? `start tx_first ${txFirst}` : 'start', /packet forwarding - /);
      return await work(testpmd);
    } finally {
      await testpmd.#stop();
      setHugePages(before);
    }
  }

  /** Million packets a second that its first port received, over so many seconds. */
  mpps(seconds: number): Promise<number> {
    return growth(seconds, () => this.#received());
  }

  async #received(): Promise<number> {
    const answer = await this.#ask('show port stats 0', /Tx-bps: .*\n/);
    const found = /RX-packets:\s*(\d+)/.exec(answer);
    if (found === null) throw new Error(`testpmd printed no RX-packets: ${answer}`);
    return Number(found[1]);
  }

  async #stop(): Promise<void> {
    const { child, closed } = this.#peer;
    child.stdin!.end('stop\nquit\n');
    const timer = setTimeout(() => child.kill('SIGKILL'), ANSWER_MILLIS);
    await closed;
    clearTimeout(timer);
  }

  /** Its answer to a command, which is complete when it matches the pattern. */
  #ask(command: string, complete: RegExp): Promise<string> {
    const from = this.#peer.printed.length;
    this.#peer.child.stdin!.write(`${command}\n`);
    return this.#until(complete, ANSWER_MILLIS, from);
  }

  async #until(pattern: RegExp, millis: number, from = 0): Promise<string> {
    const deadline = performance.now() + millis;
    while (performance.now() < deadline && this.#peer.running) {
      const answer = this.#peer.printed.slice(from);
      if (pattern.test(answer)) return answer;
      await sleep(5);
    }
    const words = this.#peer.words;
    // A driver is a file of its own; without it the device is unknown.
    const unknown = /failed to parse device "(?<device>net_[a-z_]*)/.exec(words)?.groups?.device;
    if (unknown !== undefined) throw missing(`testpmd's driver ${unknown}`);
    const lastLines = words.trim().split('\n').slice(-6).join(' | ');
    throw new Error(`testpmd ${this.#peer.running ? 'did not answer' : 'ended'}: ${lastLines}`);
  }
}

/*
 * Huge pages for DPDK, as root. Without them DPDK's packets are in pages of 4 KiB and its in-memory rings are several times slower,
 * which would be unfair. The kernel frees only pages that are not used, and may find fewer than asked for
 * (Documentation/admin-guide/mm/hugetlbpage.rst).
 */
const RESERVED = '/proc/sys/vm/nr_hugepages';

/** Huge pages that are reserved. NB: not HugePages_Total, which has more while a program that ends still holds them. */
export const hugePages = (): number => Number(readFileSync(RESERVED, 'utf8'));

export function setHugePages(count: number): void {
  if (hugePages() !== count) writeFileSync(RESERVED, String(count));
}

/** Makes sure that this many pages of the default size are free. @throws ERR_KERNEL */
function reserve(pages: number): void {
  const free = (): number =>
    Number(/^HugePages_Free:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0);
  setHugePages(hugePages() + Math.max(0, pages - free()));
  if (free() >= pages) return;
  throw new TwinpathError('ERR_KERNEL', {
    device: RESERVED,
    detail: `only ${free()} of ${pages} huge pages could be reserved`,
    hint: 'Free memory, or reserve them when the machine starts (hugepages= on the kernel command line).',
  });
}
