/** A demo for human eyes: the panel while it runs, the ledger at its end. */
import type { TrafficProgress } from '../lab/progress.ts';
import type { PortStatistics } from '../statistics.ts';
import type { DemoLedger } from './demo-ledger.ts';
import { downloadText } from './download-text.ts';
import { failoverTable } from './failovers.ts';
import type { Terminal } from './terminal.ts';

/** What a panel shows. */
export interface Moment {
  readonly seconds: number;
  readonly of: number;
  readonly vf: string | undefined;
  readonly progress: TrafficProgress;
  readonly statistics: PortStatistics;
  /** Packets a second, by queue. */
  readonly rates: readonly number[];
}

export function panelLines(moment: Moment & { failovers: number }, terminal: Terminal): string[] {
  const { seconds, of, vf, progress, statistics, rates, failovers } = moment;
  const { sent, received, outstanding, icmpSent, icmpReceived } = progress;
  const queues = statistics.queues.map(({ queue, owner }) => {
    const path = terminal.style(owner === 'vf' ? 'green' : 'yellow', owner.padEnd(10));
    return `  queue ${queue}   ${path} ${count(rates[queue] ?? 0).padStart(9)} packets/s`;
  });
  return [
    '',
    terminal.style('bold', `  ${seconds.toFixed(1)} s of ${of}   failovers ${failovers}`),
    `  VF        ${vf ?? terminal.style('dim', 'away')}`,
    ...queues,
    `  UDP       ${count(sent)} sent, ${count(received)} back, ${count(outstanding)} under way`,
    `  ICMP      ${count(icmpSent)} sent, ${count(icmpReceived)} back`,
  ];
}

/** One line a second where nobody watches. */
export function progressLine({ seconds, of, vf, progress, statistics }: Moment): string {
  const owners = new Set(statistics.queues.map(({ owner }) => owner));
  const { sent, received, outstanding } = progress;
  return (
    `${seconds.toFixed(1)} s of ${of}: path ${[...owners].join(' and ')}, VF ${vf ?? 'away'}, ` +
    `${count(sent)} sent, ${count(received)} back, ${count(outstanding)} under way`
  );
}

export function ledgerText(ledger: DemoLedger): string {
  const { packets, icmp, lostBy, icmpLostBy, lostWhere, paths, frames, drops, latencyMicros } = ledger;
  const columns = ['sent', 'received', 'lost', 'duplicated', 'reordered'] as const;
  const cells = (row: readonly string[]): string => row.map((cell) => cell.padStart(11)).join('');
  const lost = lostBy.surprise! + icmpLostBy.surprise!;
  const unexplained = lostBy.unexplained! + icmpLostBy.unexplained!;
  const named = Object.entries(drops).filter(([, packets]) => packets > 0);
  return [
    `Packets ${cells(columns)}`,
    `  UDP   ${cells(columns.map((column) => count(packets[column])))}`,
    `  ICMP  ${cells(columns.map((column) => count(icmp[column])))}`,
    '',
    `Lost in the vanished VF: ${count(lost)}; otherwise: ${count(unexplained)}`,
    `  on the way to the port ${count(lostWhere.beforePort)}, in it ${count(lostWhere.inPort)}, on the way back ${count(lostWhere.afterPort)}`,
    `  counters: ${named.map(([name, packets]) => `${name} ${count(packets)}`).join(', ') || 'all 0'}`,
    '',
    ...failoverTable(ledger.failovers),
    '',
    `By path: VF ${count(paths.vf.rx)} in, ${count(paths.vf.tx)} out; synthetic ${count(paths.synthetic.rx)} in, ${count(paths.synthetic.tx)} out`,
    `Frames: ${count(frames.accounted)} of ${count(frames.total)} accounted for, ${frames.duplicates} twice`,
    `Round trip: median ${count(latencyMicros.p50)} µs, 99% within ${count(latencyMicros.p99)} µs; longest silence ${count(ledger.longestGapMicros)} µs`,
    ...(ledger.tcp ? ['', ...downloadText(ledger.tcp)] : []),
    ...(ledger.network === 'memory'
      ? ['', 'This was the memory path. As root the same runs on kernel devices: AF_XDP, tap, rtnetlink.']
      : []),
    '',
    ledger.ok ? 'All was well.' : 'Not all was well.',
  ].join('\n');
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
