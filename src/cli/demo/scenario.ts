/**
 * The two scenarios of a demo. Each opens a port of its own, sends traffic while the host follows the schedule, and returns
 * what the ledger needs.
 *
 * With root the network is a lab: kernel devices in network namespaces. Without it, threads of this process play the
 * network. The port is the same.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Download } from '../../lab/download.ts';
import { Lab } from '../../lab/host.ts';
import { MemoryNic } from '../../lab/memory-nic.ts';
import { Traffic } from '../../lab/traffic.ts';
import { nowNanos } from '../../memory/shared.ts';
import type { SharedOptions } from '../../options.ts';
import { openPort, type Port } from '../../port.ts';
import type { CommandContext } from '../command.ts';
import { handlerUrl } from '../handler-name.ts';
import { imbalances } from '../imbalances.ts';
import { type PageAddresses, servePages } from '../pages.ts';
import { auditFrames } from '../port-report.ts';
import type { PortOnNic } from '../vf-moves.ts';
import { Display, downloadView, REFRESH_MILLIS, trafficView, type View } from './display.ts';
import type { DownloadEvidence, Evidence, RateSample, ScenarioEvidence } from './ledger.ts';
import { runSchedule } from './schedule.ts';

export interface ScenarioOptions extends Pick<SharedOptions, 'mode' | 'tap' | 'redirect'> {
  readonly queues: number;
  readonly standIn: 'veth' | 'bridge';
  /** What is served by HTTP meanwhile. */
  readonly pages: PageAddresses;
}

export interface TrafficScenarioOptions extends ScenarioOptions {
  readonly network: Evidence['network'];
  /** UDP packets a second. */
  readonly rate: number;
}

/** How long no packet must have arrived before an outstanding one counts as lost. */
const STRAGGLER_MILLIS = 700;
/** How long the last TCP acknowledgements may take to leave the port. */
const BALANCE_MILLIS = 2000;
export const MIN_DOWNLOAD_SECONDS = 4;
export const MAX_DOWNLOAD_SECONDS = 30;

/** Half the time of the first scenario, within bounds: at least enough for three cycles. */
export function downloadSeconds(seconds: number): number {
  return Math.min(MAX_DOWNLOAD_SECONDS, Math.max(MIN_DOWNLOAD_SECONDS, seconds / 2));
}

/**
 * Numbered packets from outside, which a handler answers. Undefined if it was interrupted.
 *
 * @throws what Lab, openPort, Traffic and the schedule throw; lab, port and traffic are closed then
 */
export async function runTrafficScenario(
  { network, rate, pages, ...options }: TrafficScenarioOptions,
  seconds: number,
  context: CommandContext,
): Promise<Omit<Evidence, 'download'> | undefined> {
  const echo = (address: string) => ({ handler: handlerUrl('echo'), handlerOptions: { address } });
  const run = async (pair: PortOnNic, traffic: Traffic) => {
    const view = trafficView(pair.port, traffic);
    const evidence = await runScenario(pair, view, pages, seconds, context, async () => ({
      traffic: await traffic.stop({ settleMillis: STRAGGLER_MILLIS }),
    }));
    return evidence && { ...evidence, network };
  };
  if (network === 'memory') {
    const { queues, mode } = options;
    await using port = await openPort({ network, queues, mode, ...echo(MemoryNic.guestAddress) });
    const nic = new MemoryNic(port);
    const outside = { shared: port.shared, guestMac: port.mac, dataPathSwitch: nic.dataPathSwitch.buffer };
    await using traffic = await Traffic.startInMemory(outside, nic, { rate });
    return await run({ port, nic }, traffic);
  }
  await using lab = await Lab.create(options);
  const { nic } = lab;
  await using port = await openPort({ ...guestNic(lab, options), ...echo(nic.guestAddress) });
  await using traffic = await Traffic.start(lab, nic, { rate });
  return await run({ port, nic }, traffic);
}

/**
 * A TCP download by the guest's own kernel stack, through a port between that stack and the network (host: 'inline').
 * Needs root. Undefined if it was interrupted.
 *
 * @throws what Lab, openPort, Download and the schedule throw; lab, port and download are closed then
 */
export async function runDownloadScenario(
  { pages, ...options }: ScenarioOptions,
  seconds: number,
  context: CommandContext,
): Promise<DownloadEvidence | undefined> {
  await using lab = await Lab.create(options);
  const { nic } = lab;
  await using port = await openPort({
    ...guestNic(lab, options),
    host: 'inline',
    handler: handlerUrl('host'),
  });
  await using download = await Download.start(lab, nic);
  const samples: RateSample[] = [];
  const timer = recordRate(port, download, samples);
  try {
    const view = downloadView(download, samples);
    return await runScenario({ port, nic }, view, pages, seconds, context, async () => {
      clearInterval(timer);
      const report = await download.stop();
      await balanced(port);
      return { download: report, samples };
    });
  } finally {
    clearInterval(timer);
  }
}

function guestNic({ guest, nic }: Lab, { standIn: _, ...options }: Omit<ScenarioOptions, 'pages'>) {
  return { netns: guest, netvsc: nic.netvsc, force: true, ...options };
}

/** @param stop ends the traffic after the last cycle and returns what it measured */
async function runScenario<Result>(
  pair: PortOnNic,
  view: View,
  pages: PageAddresses,
  seconds: number,
  { terminal, interruption: { signal } }: CommandContext,
  stop: () => Promise<Result>,
): Promise<(Result & ScenarioEvidence) | undefined> {
  const { port } = pair;
  const errors: string[] = [];
  port.on('error', ({ message }) => errors.push(message));
  port.on('worker', ({ state, queue, detail }) => {
    if (state === 'died') errors.push(`the worker of queue ${queue} died: ${detail}`);
  });
  const served = await servePages(pages, [port], terminal);
  try {
    const display = new Display(pair, seconds, terminal, view);
    const done = await runSchedule(pair, seconds, signal, (step) => display.step(step)).finally(() =>
      display.end(),
    );
    if (signal.aborted) return undefined;
    return await evidenceOf(pair, errors, { ...done, seconds }, await stop());
  } finally {
    served.close();
  }
}

async function evidenceOf<Result, Done>(
  { port, nic }: PortOnNic,
  errors: readonly string[],
  done: Done,
  result: Result,
) {
  const frames = await auditFrames(port);
  const { events } = nic;
  return {
    ...result,
    ...done,
    frames,
    errors,
    events,
    statistics: port.stats(),
    failovers: port.failovers(),
  };
}

/** Waits until the port's counters show nothing under way. What does not add up after that is a problem of the ledger's. */
async function balanced(port: Port): Promise<void> {
  const deadline = nowNanos() + BALANCE_MILLIS * 1e6;
  while (imbalances(port.stats()).length > 0 && nowNanos() < deadline) await sleep(5);
}

/** Adds a sample ten times a second, until the timer is cleared. */
function recordRate(port: Port, download: Download, samples: RateSample[]): NodeJS.Timeout {
  const read = () => {
    const { vf, synthetic } = port.stats().paths;
    const { bytes } = download.progress();
    return { nanos: nowNanos(), bytes, vf: vf.rxBytes, synthetic: synthetic.rxBytes };
  };
  let before = read();
  return setInterval(() => {
    const now = read();
    const [vf, synthetic] = [now.vf - before.vf, now.synthetic - before.synthetic];
    samples.push({
      millis: Math.round((now.nanos - before.nanos) / 1e6),
      bytes: now.bytes - before.bytes,
      path: vf + synthetic === 0 ? 'none' : vf > synthetic ? 'vf' : 'synthetic',
    });
    before = now;
  }, REFRESH_MILLIS);
}
