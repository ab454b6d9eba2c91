/**
 * What `twinpath run` does while its ports are open: pages by HTTP, rates, word to the service manager; and the end, which may
 * begin with a time in which `/health` sends new flows elsewhere.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatisticsSample } from '../control/protocol.ts';
import { rateLine, ratesBetween } from '../control/rates.ts';
import { sampleOf } from '../control/sample.ts';
import { Memory, nowNanos } from '../memory/shared.ts';
import type { Port } from '../port.ts';
import { ServiceManager } from '../service/service-manager.ts';
import { invalid } from '../validation.ts';
import { type Arguments, whole } from './arguments.ts';
import type { CommandContext } from './command.ts';
import { type PageAddresses, pagesOf, servePages } from './pages.ts';
import { count } from './port-report.ts';

/** Closing a port takes up to 5 s if a handler does not return, and the coordinator may wait for RTNL. Milliseconds. */
const CLOSE_MILLIS = 30_000;

export interface RunningOptions {
  readonly pages: PageAddresses;
  readonly seconds: number | undefined;
  readonly every: number | undefined;
  readonly drain: number | undefined;
  readonly service: ServiceManager | undefined;
}

/** Before a port is opened: something may be wrong. @throws ERR_OPTION_INVALID, ERR_KERNEL, ERR_PERMISSION */
export function runningOptions(args: Arguments): RunningOptions {
  const pages = pagesOf(args);
  const drain = whole(args, 'drain', 1, 3600);
  if (drain !== undefined && pages.health === undefined)
    invalid('--drain', 'without --health nobody learns that the port is draining', 'Add --health.');
  return {
    pages,
    drain,
    seconds: whole(args, 'seconds', 1, 1_000_000),
    every: whole(args, 'every', 1, 3600),
    service: ServiceManager.find(),
  };
}

/** Returns when the ports are to be closed, or have closed by themselves; or when `through` aborts: no more packets come. */
export async function runUntilEnd(
  ports: readonly Port[],
  { pages, seconds, every, drain, service }: RunningOptions,
  { terminal, interruption }: CommandContext,
  through?: AbortSignal,
): Promise<void> {
  for (const port of ports) terminal.log(`${port.device} (${port.mac}) is open; Ctrl-C ends it`);
  const served = await servePages(pages, ports, terminal);
  const status = new RateMeter(ports);
  service?.ready(ports, () => status.lines().join('; ').replace(/ +/g, ' '));
  const timers: NodeJS.Timeout[] = [];
  if (terminal.live) timers.push(setInterval(showRates(ports, terminal.panel.bind(terminal)), 1000));
  if (every !== undefined) {
    const meter = new RateMeter(ports);
    timers.push(setInterval(() => terminal.log(...meter.lines()), every * 1000));
  }
  const ends = [interruption.signal, ...(through === undefined ? [] : [through])];
  await untilEnd(AbortSignal.any(ends), ports[0]!, seconds);
  service?.stopping((drain ?? 0) * 1000 + CLOSE_MILLIS);
  if (drain !== undefined && interruption.signal.aborted) {
    served.drain();
    service?.status(`draining for ${drain} s`);
    terminal.log(`twinpath: draining for ${drain} s: /health answers 503; another Ctrl-C ends it at once`);
    await untilEnd(new AbortController().signal, ports[0]!, drain);
  }
  for (const timer of timers) clearInterval(timer);
  served.close();
  service?.close();
  terminal.panel([]);
}

/** The rates of ports that were opened together, since the last reading. */
class RateMeter {
  readonly #ports: readonly Port[];
  readonly #memory: Memory;
  #before: StatisticsSample;

  constructor(ports: readonly Port[]) {
    this.#ports = ports;
    this.#memory = Memory.attach(ports[0]!.shared);
    this.#before = sampleOf(this.#memory);
  }

  /** One for each port, as `twinpath stats --watch` prints it; with its device if there are several. */
  lines(): string[] {
    const [before, now] = [this.#before, sampleOf(this.#memory)];
    this.#before = now;
    return this.#ports.map(({ device }, port) => {
      const line = rateLine(ratesBetween(before, now, port));
      return this.#ports.length > 1 ? `${device}: ${line}` : line;
    });
  }
}

/** Resolves when the command is interrupted, the time is over, or the port has closed by itself. */
async function untilEnd(interrupted: AbortSignal, port: Port, seconds: number | undefined): Promise<void> {
  const closed = new AbortController();
  const close = (): void => closed.abort();
  port.once('close', close);
  const signal = AbortSignal.any([interrupted, closed.signal]);
  const deadline = nowNanos() + (seconds ?? Number.POSITIVE_INFINITY) * 1e9;
  // A timer takes at most 24 days.
  while (!signal.aborted && nowNanos() < deadline) {
    const millis = Math.min((deadline - nowNanos()) / 1e6, 3_600_000);
    await sleep(Math.max(1, millis), undefined, { signal }).catch(() => {});
  }
  port.off('close', close);
}

/** One line for each port. */
function showRates(ports: readonly Port[], show: (lines: readonly string[]) => void): () => void {
  let before = ports.map((port) => port.stats());
  let at = nowNanos();
  return () => {
    const all = ports.map((port) => port.stats());
    const nanos = nowNanos();
    const lines = all.map((now, i) => {
      const rate = (of: 'received' | 'transmitted'): string =>
        count(((now[of] - before[i]![of]) / (nanos - at)) * 1e9);
      const owners = [...new Set(now.queues.map(({ owner }) => owner))].join(' and ');
      const name = ports.length > 1 ? `${ports[i]!.device}: ` : '';
      return `${name}${owners}: ${rate('received')} packets/s in, ${rate('transmitted')} out; ${count(now.received)} in total`;
    });
    show(lines);
    before = all;
    at = nanos;
  };
}
