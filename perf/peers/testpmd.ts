/**
 * DPDK's testpmd as a peer: started on one core, driven by its own prompt, asked for its counters.
 *
 * `--in-memory` keeps its files to itself, so several may run; memory lies in huge pages (huge-pages.ts).
 * The forwarding core is the last CPU, where our workers are pinned too; the prompt's thread sleeps on the
 * first. It ends when its standard input does, so it does not outlive this process.
 * See https://doc.dpdk.org/guides-22.11/testpmd_app_ug/
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { HugePages } from './huge-pages.ts';
import { missing } from './missing.ts';

export interface TestpmdOptions {
  /** `--vdev` arguments, for instance `net_ring0`. */
  readonly vdevs: readonly string[];
  readonly forward: 'macswap' | 'io' | 'mac' | 'rxonly' | 'txonly';
  /** Packets a burst, 1 to 512. */
  readonly burst?: number;
  /** Bursts sent before forwarding begins: the packets that circulate. */
  readonly txFirst?: number;
  /** Network namespace, by its name. */
  readonly namespace?: string;
  readonly mbufs?: number;
  /** CPU of the forwarding thread. */
  readonly core?: number;
  readonly extra?: readonly string[];
}

export interface PortCounters {
  readonly rx: number;
  readonly tx: number;
  readonly missed: number;
  readonly txDropped: number;
}

const PROGRAM = 'dpdk-testpmd';
/** 2 MiB each: the packet pool and the EAL's own. */
const PAGES = 128;
const START_MILLIS = 20_000;
const ANSWER_MILLIS = 5000;

export class Testpmd {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #pages: HugePages;
  #text = '';
  #closed = false;

  private constructor(child: ChildProcessWithoutNullStreams, pages: HugePages) {
    this.#child = child;
    this.#pages = pages;
    const listen = (data: Buffer): void => {
      this.#text = (this.#text + data.toString()).slice(-64_000);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.stdin.on('error', () => {});
    child.on('close', () => {
      this.#closed = true;
    });
  }

  /** Starts it, and begins to forward. @throws Error, saying how to install it when it is missing */
  static async start(options: TestpmdOptions): Promise<Testpmd> {
    if (spawnSync(PROGRAM, ['--help']).error !== undefined) throw missing(PROGRAM);
    const { vdevs, forward, burst = 32, txFirst = 0, namespace, mbufs = 8192, extra = [] } = options;
    const last = cpus().length - 1;
    const { core = last } = options;
    const main = core === 0 ? last : 0;
    const args = [
      ...['-l', `${main},${core}`, '--main-lcore', String(main), '--in-memory', '--no-pci', '--no-telemetry'],
      ...['-m', '192', ...vdevs.map((vdev) => `--vdev=${vdev}`), '--', '--interactive'],
      ...[`--forward-mode=${forward}`, `--burst=${burst}`, `--total-num-mbufs=${mbufs}`, ...extra],
    ];
    // Into a pipe it would write when its buffer is full.
    const line = ['stdbuf', '-oL', PROGRAM];
    const command = namespace === undefined ? line : ['ip', 'netns', 'exec', namespace, ...line];
    const pages = new HugePages();
    pages.reserve(PAGES);
    const testpmd = new Testpmd(spawn(command[0]!, [...command.slice(1), ...args]), pages);
    try {
      await testpmd.#until(/testpmd>/, START_MILLIS);
      await testpmd.#ask(txFirst > 0 ? `start tx_first ${txFirst}` : 'start', /packet forwarding - /);
      return testpmd;
    } catch (error) {
      await testpmd.stop();
      throw error;
    }
  }

  async counters(port = 0): Promise<PortCounters> {
    const answer = await this.#ask(`show port stats ${port}`, /Tx-bps: .*\n/);
    const read = (name: string): number => {
      const found = new RegExp(`${name}:\\s*(\\d+)`).exec(answer);
      if (found === null) throw new Error(`testpmd told no ${name}: ${answer}`);
      return Number(found[1]);
    };
    const [rx, tx] = [read('RX-packets'), read('TX-packets')];
    return { rx, tx, missed: read('RX-missed'), txDropped: read('TX-errors') };
  }

  /** Packets a second that a port received, over so many seconds. */
  async packetsPerSecond(seconds: number, port = 0): Promise<number> {
    const before = await this.counters(port);
    const began = performance.now();
    await sleep(seconds * 1000);
    const after = await this.counters(port);
    return ((after.rx - before.rx) * 1000) / (performance.now() - began);
  }

  async stop(): Promise<void> {
    if (!this.#closed) {
      this.#child.stdin.end('stop\nquit\n');
      for (let tries = 0; !this.#closed && tries < 250; tries++) await sleep(20);
      if (!this.#closed) this.#child.kill('SIGKILL');
      for (let tries = 0; !this.#closed && tries < 250; tries++) await sleep(20);
    }
    this.#pages.restore();
  }

  /** Its answer to a command, known to be whole by a pattern. */
  async #ask(command: string, whole: RegExp): Promise<string> {
    this.#text = '';
    this.#child.stdin.write(`${command}\n`);
    return this.#until(whole, ANSWER_MILLIS);
  }

  async #until(pattern: RegExp, millis: number): Promise<string> {
    const deadline = performance.now() + millis;
    while (performance.now() < deadline && !this.#closed) {
      if (pattern.test(this.#text)) return this.#text;
      await sleep(5);
    }
    const told = this.#text.trim().split('\n').slice(-6).join(' | ');
    // A driver is a file of its own; without it the device is unknown.
    const unknown = /failed to parse device "(?<device>net_[a-z_]*)/.exec(this.#text)?.groups?.device;
    if (unknown !== undefined) throw missing(`testpmd's driver ${unknown}`);
    throw new Error(`testpmd ${this.#closed ? 'ended' : 'is silent'}: ${told}`);
  }
}
