/** The second act for human eyes: the panel while it runs, its part of the ledger. */
import type { DownloadProgress } from '../lab/download.ts';
import type { DownloadLedger } from './download-ledger.ts';
import { failoverTable } from './failovers.ts';
import { gbitPerSecond, PATH_MARKS, type RateSample, rateChart } from './rate-chart.ts';
import type { Terminal } from './terminal.ts';

/** What a panel shows. */
export interface DownloadMoment {
  readonly seconds: number;
  readonly of: number;
  readonly vf: string | undefined;
  readonly progress: DownloadProgress;
  readonly samples: readonly RateSample[];
}

/** With the label in front of it a chart fits into 80 columns. */
const COLUMNS = 66;
const LEGEND = `${PATH_MARKS.vf} VF  ${PATH_MARKS.synthetic} synthetic`;

export function downloadPanel(moment: DownloadMoment & { failovers: number }, terminal: Terminal): string[] {
  const { seconds, of, vf, progress, samples, failovers } = moment;
  const { bars, marks, highest } = rateChart(samples.slice(-COLUMNS), COLUMNS);
  return [
    '',
    terminal.style('bold', `  ${seconds.toFixed(1)} s of ${of}   failovers ${failovers}`),
    `  VF        ${vf ?? terminal.style('dim', 'away')}`,
    `  TCP       ${amount(moment)}, longest stall ${millis(progress.longestStallMillis)}`,
    `  rate      ${coloured(bars, marks, terminal)}`,
    `  by        ${coloured(marks, marks, terminal)}`,
    terminal.style('dim', `            ${LEGEND}   full bar ${highest.toFixed(2)} Gbit/s`),
  ];
}

/** One line a second where nobody watches. */
export function downloadLine(moment: DownloadMoment): string {
  const { seconds, of, vf, samples } = moment;
  const path = samples.at(-1)?.path ?? 'none';
  return `${seconds.toFixed(1)} s of ${of}: path ${path}, VF ${vf ?? 'away'}, ${amount(moment)}`;
}

export function downloadText(ledger: DownloadLedger): string[] {
  const { seconds, bytes, longestStallMillis, retransmits, survived, paths, frames, drops, samples } = ledger;
  const { bars, marks, highest } = rateChart(samples, COLUMNS);
  const share = (path: 'vf' | 'synthetic'): string =>
    `${megabytes(paths[path].rxBytes)} in, ${megabytes(paths[path].txBytes)} out`;
  const named = Object.entries(drops).filter(([, packets]) => packets > 0);
  const kept = survived ? 'survived' : 'did not survive';
  return [
    `TCP through the guest's own stack, ${seconds.toFixed(1)} s: the connection ${kept}`,
    `  rate  ${bars}`,
    `  by    ${marks}`,
    `        ${LEGEND}   full bar ${highest.toFixed(2)} Gbit/s`,
    `  ${count(bytes)} bytes, ${ledger.gbitPerSecond.toFixed(2)} Gbit/s, longest stall ${millis(longestStallMillis)}, retransmitted ${count(retransmits)}`,
    `  counters: ${named.map(([name, packets]) => `${name} ${count(packets)}`).join(', ') || 'all 0'}`,
    '',
    ...failoverTable(ledger.failovers),
    '',
    `By path: VF ${share('vf')}; synthetic ${share('synthetic')}`,
    `Frames: ${count(frames.accounted)} of ${count(frames.total)} accounted for, ${frames.duplicates} twice`,
  ];
}

/** So far, and the rate of the last half second: a tenth of one jumps too much to be read. */
function amount({ progress, samples }: DownloadMoment): string {
  const recent = samples.slice(-5);
  const sum = (of: (sample: RateSample) => number): number => recent.reduce((all, one) => all + of(one), 0);
  const rate = gbitPerSecond({ bytes: sum(({ bytes }) => bytes), millis: sum(({ millis }) => millis) });
  return `${megabytes(progress.bytes)}, ${rate.toFixed(2)} Gbit/s`;
}

/** Each stretch of one path in that path's colour. */
function coloured(text: string, marks: string, terminal: Terminal): string {
  return [...marks.matchAll(/(.)\1*/g)]
    .map(({ 0: stretch, index }) => {
      const part = text.slice(index, index + stretch.length);
      return terminal.style(stretch.startsWith(PATH_MARKS.vf) ? 'green' : 'yellow', part);
    })
    .join('');
}

function millis(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toLocaleString('en', { maximumFractionDigits: bytes < 10e6 ? 1 : 0 })} MB`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
