/**
 * A demo for people: what host and port do, a line each, with the traffic in a panel below or in a line every second;
 * and the ledger as text. All lines fit into 80 columns.
 */
import type { Download } from '../../lab/download.ts';
import type { Traffic } from '../../lab/traffic.ts';
import { nowNanos } from '../../memory/shared.ts';
import type { Port } from '../../port.ts';
import { failoverLine, failoverTable, mergeFailovers } from '../failovers.ts';
import { count } from '../port-report.ts';
import type { Terminal } from '../terminal.ts';
import type { PortOnNic } from '../vf-moves.ts';
import type { DemoLedger, DownloadLedger, RateSample } from './ledger.ts';

/** How often a panel is drawn. */
export const REFRESH_MILLIS = 100;
/** How often a line is printed if standard error is not a terminal. */
const LINE_MILLIS = 1000;
/** Of a chart. With the label before it that makes fewer than 80. */
const COLUMNS = 66;

/** The traffic of a scenario as it is now. */
export interface View {
  path(): string;
  amount(): string;
  panel(terminal: Terminal): readonly string[];
}

/** Shows a scenario while it runs. */
export class Display {
  readonly #pair: PortOnNic;
  readonly #seconds: number;
  readonly #terminal: Terminal;
  readonly #view: View;
  readonly #started = nowNanos();
  readonly #timer: NodeJS.Timeout;
  #failovers = 0;

  /** @param seconds how long the scenario takes */
  constructor(pair: PortOnNic, seconds: number, terminal: Terminal, view: View) {
    this.#pair = pair;
    this.#seconds = seconds;
    this.#terminal = terminal;
    this.#view = view;
    const { device, mac, paths } = pair.port;
    terminal.log(`Port over ${device} (${mac}), synthetic path: ${pathText(paths)}.`);
    this.#timer = setInterval(() => this.#refresh(), terminal.live ? REFRESH_MILLIS : LINE_MILLIS);
  }

  step(what: string): void {
    this.#logFailovers();
    this.#terminal.log(`${this.#elapsed.toFixed(2).padStart(6)} s  ${what}`);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#logFailovers();
    this.#terminal.panel([]);
  }

  get #elapsed(): number {
    return (nowNanos() - this.#started) / 1e9;
  }

  #refresh(): void {
    this.#logFailovers();
    const [terminal, view] = [this.#terminal, this.#view];
    const { vf } = this.#pair.nic;
    const time = `${this.#elapsed.toFixed(1)} s of ${this.#seconds}`;
    if (!terminal.live) {
      terminal.log(`${time}: path ${view.path()}, VF ${vf ?? 'away'}, ${view.amount()}`);
      return;
    }
    terminal.panel([
      '',
      terminal.style('bold', `  ${time}   failovers ${this.#failovers}`),
      `  VF        ${vf ?? terminal.style('dim', 'away')}`,
      ...view.panel(terminal),
    ]);
  }

  /** Only those that every queue has completed: the journal gets one entry per queue. */
  #logFailovers(): void {
    const { port, nic } = this.#pair;
    const queues = port.stats().queues.length;
    const complete = mergeFailovers(port.failovers(), nic.events).filter(
      (failover) => failover.from !== 'none' && failover.queues === queues,
    );
    for (const failover of complete.slice(this.#failovers)) {
      this.#terminal.log(`          ${failoverLine(failover)}`);
    }
    this.#failovers = complete.length;
  }
}

function pathText({ synthetic }: Port['paths']): string {
  if (synthetic === undefined) return 'none';
  const { driver, mode, redirect } = synthetic;
  return driver === 'memory' ? mode : `${driver}, ${mode}, ${redirect}`;
}

export function trafficView(port: Port, traffic: Traffic): View {
  let before = { nanos: nowNanos(), received: [] as readonly number[] };
  const amount = (): string => {
    const { sent, received, outstanding } = traffic.progress();
    return `${count(sent)} sent, ${count(received)} back, ${count(outstanding)} under way`;
  };
  return {
    path: () => [...new Set(port.stats().queues.map(({ owner }) => owner))].join(' and '),
    amount,
    panel: (terminal) => {
      const { queues } = port.stats();
      const received = queues.map(({ paths }) => paths.vf.rxPackets + paths.synthetic.rxPackets);
      const now = { nanos: nowNanos(), received };
      const seconds = (now.nanos - before.nanos) / 1e9;
      const lines = queues.map(({ queue, owner }) => {
        const path = terminal.style(owner === 'vf' ? 'green' : 'yellow', owner.padEnd(10));
        const rate = (now.received[queue]! - (before.received[queue] ?? 0)) / seconds;
        return `  queue ${queue}   ${path} ${count(rate).padStart(9)} packets/s`;
      });
      before = now;
      const { icmpSent, icmpReceived } = traffic.progress();
      return [
        ...lines,
        `  UDP       ${amount()}`,
        `  ICMP      ${count(icmpSent)} sent, ${count(icmpReceived)} back`,
      ];
    },
  };
}

export function downloadView(download: Download, samples: readonly RateSample[]): View {
  const amount = (): string => {
    // Half a second: the rate of a tenth changes too fast to be read.
    const recent = merge(samples.slice(-5));
    return `${megabytes(download.progress().bytes)}, ${gbitPerSecond(recent).toFixed(2)} Gbit/s`;
  };
  return {
    path: () => samples.at(-1)?.path ?? 'none',
    amount,
    panel: (terminal) => {
      const chart = rateChart(samples.slice(-COLUMNS), COLUMNS);
      return [
        `  TCP       ${amount()}, longest stall ${millis(download.progress().longestStallMillis)}`,
        `  rate      ${coloured(chart.bars, chart, terminal)}`,
        `  by        ${coloured(chart.marks, chart, terminal)}`,
        terminal.style('dim', `            ${legend(chart)}`),
      ];
    },
  };
}

export function ledgerText(ledger: DemoLedger): string {
  const { packets, icmp, lostBy, icmpLostBy, lostWhere, paths, latencyMicros } = ledger;
  const columns = ['sent', 'received', 'lost', 'duplicated', 'reordered'] as const;
  const cells = (row: readonly string[]): string => row.map((cell) => cell.padStart(11)).join('');
  const lost = lostBy.surprise! + icmpLostBy.surprise!;
  const unexplained = lostBy.unexplained! + icmpLostBy.unexplained!;
  return [
    `Packets ${cells(columns)}`,
    `  UDP   ${cells(columns.map((column) => count(packets[column])))}`,
    `  ICMP  ${cells(columns.map((column) => count(icmp[column])))}`,
    '',
    `Lost in the vanished VF: ${count(lost)}; otherwise: ${count(unexplained)}`,
    `  on the way to the port ${count(lostWhere.beforePort)}, in it ${count(lostWhere.inPort)}, on the way back ${count(lostWhere.afterPort)}`,
    ...portText(ledger, ({ rx, tx }) => `${count(rx)} in, ${count(tx)} out`, paths),
    `Round trip: median ${count(latencyMicros.p50)} µs, 99% within ${count(latencyMicros.p99)} µs; longest silence ${count(ledger.longestGapMicros)} µs`,
    ...(ledger.tcp ? ['', ...downloadText(ledger.tcp)] : []),
    ...(ledger.network === 'memory'
      ? ['', 'This was the memory path. As root the same runs on kernel devices: AF_XDP, tap, rtnetlink.']
      : []),
    '',
    ledger.ok ? 'All was well.' : 'Not all was well.',
  ].join('\n');
}

function downloadText(ledger: DownloadLedger): string[] {
  const { seconds, bytes, longestStallMillis, retransmits, survived, paths, samples } = ledger;
  const chart = rateChart(samples, COLUMNS);
  return [
    `TCP through the guest's own stack, ${seconds.toFixed(1)} s: the connection ${survived ? 'survived' : 'did not survive'}`,
    `  rate  ${chart.bars}`,
    `  by    ${chart.marks}`,
    `        ${legend(chart)}`,
    `  ${count(bytes)} bytes, ${ledger.gbitPerSecond.toFixed(2)} Gbit/s, longest stall ${millis(longestStallMillis)}, retransmitted ${count(retransmits)}`,
    ...portText(
      ledger,
      ({ rxBytes, txBytes }) => `${megabytes(rxBytes)} in, ${megabytes(txBytes)} out`,
      paths,
    ),
  ];
}

/** What the texts of both scenarios have: drop counters, failovers, what each path carried, frames. */
function portText<Share>(
  { drops, failovers, frames }: Pick<DemoLedger, 'drops' | 'failovers' | 'frames'>,
  share: (path: Share) => string,
  { vf, synthetic }: { readonly vf: Share; readonly synthetic: Share },
): string[] {
  const nonZero = Object.entries(drops).filter(([, packets]) => packets > 0);
  return [
    `  counters: ${nonZero.map(([name, packets]) => `${name} ${count(packets)}`).join(', ') || 'all 0'}`,
    '',
    ...failoverTable(failovers),
    '',
    `By path: VF ${share(vf)}; synthetic ${share(synthetic)}`,
    `Frames: ${count(frames.accounted)} of ${count(frames.total)} accounted for, ${frames.duplicates} twice`,
  ];
}

export interface Chart {
  /** One character a column; the highest column is a full bar. */
  readonly bars: string;
  /** The path of each column: {@link PATH_MARKS}. */
  readonly marks: string;
  /** Gbit/s of the highest column. */
  readonly highest: number;
}

const PATH_MARKS = { vf: '═', synthetic: '─', none: ' ' } as const;
/** The first only if nothing arrived. */
const BARS = [...' ▁▂▃▄▅▆▇█'];

/** A rate over time as a row of bars. Samples beyond `columns` are merged by twos, threes … */
export function rateChart(samples: readonly RateSample[], columns: number): Chart {
  const perColumn = Math.max(1, Math.ceil(samples.length / columns));
  const merged = Array.from({ length: Math.ceil(samples.length / perColumn) }, (_, i) =>
    merge(samples.slice(i * perColumn, (i + 1) * perColumn)),
  );
  const rates = merged.map(gbitPerSecond);
  const highest = Math.max(0, ...rates);
  const bar = (rate: number): number => (highest === 0 ? 0 : Math.ceil((rate / highest) * (BARS.length - 1)));
  return {
    bars: rates.map((rate) => BARS[bar(rate)]).join(''),
    marks: merged.map(({ path }) => PATH_MARKS[path]).join(''),
    highest,
  };
}

export function gbitPerSecond({ bytes, millis }: Pick<RateSample, 'bytes' | 'millis'>): number {
  return millis > 0 ? (bytes * 8) / millis / 1e6 : 0;
}

function merge(samples: readonly RateSample[]): RateSample {
  const sum = (path?: RateSample['path']): number =>
    samples.reduce((all, one) => all + (path === undefined || one.path === path ? one.bytes : 0), 0);
  const [vf, synthetic] = [sum('vf'), sum('synthetic')];
  return {
    millis: samples.reduce((all, { millis }) => all + millis, 0),
    bytes: sum(),
    path: vf + synthetic === 0 ? 'none' : vf > synthetic ? 'vf' : 'synthetic',
  };
}

function legend({ highest }: Chart): string {
  return `${PATH_MARKS.vf} VF  ${PATH_MARKS.synthetic} synthetic   full bar ${highest.toFixed(2)} Gbit/s`;
}

/** Each run of columns of one path in that path's colour. */
function coloured(text: string, { marks }: Chart, terminal: Terminal): string {
  return [...marks.matchAll(/(.)\1*/g)]
    .map(({ 0: run, index }) => {
      const part = text.slice(index, index + run.length);
      return terminal.style(run.startsWith(PATH_MARKS.vf) ? 'green' : 'yellow', part);
    })
    .join('');
}

function millis(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toLocaleString('en', { maximumFractionDigits: bytes < 10e6 ? 1 : 0 })} MB`;
}
