/**
 * An act of the demo as it is seen while it runs: what the host does and how the port answers, a line each, and
 * the traffic in a panel below them, or, where nobody watches, in a line a second.
 */
import type { HostNic } from '../lab/memory-nic.ts';
import { nowNanos } from '../memory/shared.ts';
import type { Port } from '../port.ts';
import { failoverLine, mergeFailovers } from './failovers.ts';
import type { Terminal } from './terminal.ts';

/** How an act's traffic looks. `seconds` since the act began. */
export interface View {
  /** Lines of a panel; asked for every {@link PANEL_MILLIS}, or never. */
  panel(seconds: number, failovers: number, terminal: Terminal): readonly string[];
  line(seconds: number): string;
}

export const PANEL_MILLIS = 100;
const LINE_MILLIS = 1000;

export class Show {
  readonly #port: Port;
  readonly #nic: HostNic;
  readonly #terminal: Terminal;
  readonly #view: View;
  readonly #started = nowNanos();
  readonly #timer: NodeJS.Timeout;
  #told = 0;

  constructor({ port, nic }: { port: Port; nic: HostNic }, terminal: Terminal, view: View) {
    this.#port = port;
    this.#nic = nic;
    this.#terminal = terminal;
    this.#view = view;
    const { device, mac, paths } = port;
    terminal.log(`Port over ${device} (${mac}), synthetic path: ${describe(paths)}.`);
    this.#timer = setInterval(() => this.#refresh(), terminal.live ? PANEL_MILLIS : LINE_MILLIS);
  }

  step(what: string): void {
    this.#tellFailovers();
    this.#terminal.log(`${this.#elapsed.toFixed(2).padStart(6)} s  ${what}`);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#tellFailovers();
    this.#terminal.panel([]);
  }

  get #elapsed(): number {
    return (nowNanos() - this.#started) / 1e9;
  }

  #refresh(): void {
    this.#tellFailovers();
    const [terminal, seconds] = [this.#terminal, this.#elapsed];
    if (terminal.live) terminal.panel(this.#view.panel(seconds, this.#told, terminal));
    else terminal.log(this.#view.line(seconds));
  }

  /** Those of which every queue has reported: the journal gets them queue by queue. */
  #tellFailovers(): void {
    const queues = this.#port.stats().queues.length;
    const done = mergeFailovers(this.#port.failovers(), this.#nic.events).filter(
      ({ from, queues: told }) => from !== 'none' && told === queues,
    );
    for (const failover of done.slice(this.#told)) this.#terminal.log(`          ${failoverLine(failover)}`);
    this.#told = done.length;
  }
}

function describe({ synthetic }: Port['paths']): string {
  if (synthetic === undefined) return 'none';
  const { driver, mode, redirect } = synthetic;
  return driver === 'memory' ? mode : `${driver}, ${mode}, ${redirect}`;
}
