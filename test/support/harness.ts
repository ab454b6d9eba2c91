/**
 * A port over a lab, with what every test of failover has to ask of it.
 *
 * A scene opens lab and ports, keeps what the ports told, and ends with `finish`: traffic stopped, every
 * frame of the pool accounted for, every packet in one counter, ports closed, nothing left in process or
 * namespace. What a test opens is taken down when it is over, also when it failed half-way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { imbalances } from '../../dist/src/cli/imbalances.js';
import type { TwinpathError } from '../../dist/src/errors.js';
import { kernelIsAtLeast } from '../../dist/src/kernel/machine.js';
import { Lab, type LabOptions } from '../../dist/src/lab/host.js';
import type { Nic } from '../../dist/src/lab/nic.js';
import type { TrafficReport } from '../../dist/src/lab/reports.js';
import { Traffic, type TrafficOptions } from '../../dist/src/lab/traffic.js';
import { NOTHING_DROPPED } from '../../dist/src/memory/counters.js';
import type { OpenPortsOptions, PortOptions } from '../../dist/src/options.js';
import { openPorts, type Port } from '../../dist/src/port.js';
import type { LinkEvent, OpenPaths } from '../../dist/src/port-events.js';
import { attachments, descriptors, ringMappings } from './machine-state.ts';

export { Lab, type Nic, type Port, Traffic, type TrafficReport };

export const ECHO = new URL('../../dist/src/handlers/echo.js', import.meta.url);

/** A condition that is not met by then will not be met. */
const PATIENCE_MILLIS = 15_000;
/** Threads and their descriptors end a moment after the port has closed. */
const LEFTOVER_MILLIS = 5_000;

/** Waits for a condition. @throws after {@link PATIENCE_MILLIS}, naming what was waited for */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  millis = PATIENCE_MILLIS,
): Promise<void> {
  const deadline = Date.now() + millis;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${millis} ms`);
    await sleep(2);
  }
}

export const monotonicNanos = (): number => Number(process.hrtime.bigint());

/** A lab that is removed when the test ends. */
export async function buildLab(options: LabOptions = {}): Promise<Lab> {
  const lab = await Lab.create(options);
  onTestFinished(() => lab.close());
  return lab;
}

/** Traffic that ends with the test. */
export async function drive(lab: Lab, nic: Nic, options: TrafficOptions = {}): Promise<Traffic> {
  const traffic = await Traffic.start(lab, nic, options);
  onTestFinished(() => traffic[Symbol.asyncDispose]());
  return traffic;
}

/** Waits until so many more UDP packets have come back, and an ICMP echo reply from the guest. */
export async function passed(traffic: Traffic, packets = 600): Promise<void> {
  const before = traffic.progress();
  await until(`${packets} more packets back`, () => {
    const { received, icmpReceived } = traffic.progress();
    return received >= before.received + packets && icmpReceived > before.icmpReceived;
  });
}

export function owners(port: Port): string[] {
  return port.stats().queues.map(({ owner }) => owner);
}

export async function ownedBy(port: Port, path: 'vf' | 'synthetic' | 'none'): Promise<void> {
  await until(`all queues on ${path}`, () => owners(port).every((owner) => owner === path)).catch((error) => {
    throw new Error(`${error.message}, but on ${owners(port)}`);
  });
}

/** `alone`: each port is opened on its stand-in as on one card alone. */
type PortsOptions = Partial<Omit<OpenPortsOptions, 'ports'>> &
  Pick<PortOptions, 'configuration'> & { readonly alone?: boolean };

/** Descriptors and mappings of this process, without the lab's BPF links: it has one for each VF. */
interface Holdings {
  readonly descriptors: string[];
  readonly mappings: string[];
}

function holdings(lab: Lab): Holdings {
  const found = descriptors();
  const own = kernelIsAtLeast(6, 6) ? lab.nics.filter(({ vf }) => vf !== undefined) : []; // without tcx it has none
  for (const _ of own) found.splice(found.indexOf('anon_inode:bpf_link'), 1);
  return { descriptors: found, mappings: ringMappings() };
}

/** The first use leaves descriptors open (the shim, the first thread), which are no leak. */
let warm: Promise<void> | undefined;
async function warmUp(): Promise<void> {
  warm ??= (async () => {
    const lab = await Lab.create();
    try {
      const ports = await openPorts(portsOptions(lab, {}));
      await ports[0]!.close();
    } finally {
      await lab.close();
    }
  })();
  await warm;
}

function portsOptions(
  lab: Lab,
  { alone = false, configuration, ...options }: PortsOptions,
): OpenPortsOptions {
  return {
    handler: ECHO,
    handlerOptions: { address: lab.nics.map(({ guestAddress }) => guestAddress) },
    netns: lab.guest,
    queues: lab.queues,
    ...options,
    ports: lab.nics.map(({ netvsc }) => ({
      ...(alone ? { device: netvsc } : { netvsc, force: true }),
      configuration,
    })),
  };
}

export class Scene {
  readonly lab: Lab;
  readonly ports: readonly Port[];
  /** Events of the ports, oldest first. */
  readonly errors: TwinpathError[] = [];
  readonly news: LinkEvent[] = [];
  readonly #before: Holdings;
  readonly #traffic: Traffic[] = [];

  private constructor(lab: Lab, ports: readonly Port[], before: Holdings) {
    this.lab = lab;
    this.ports = ports;
    this.#before = before;
    for (const port of ports) {
      port.on('error', (error) => this.errors.push(error));
      port.on('link', (news) => this.news.push(news));
    }
  }

  /** A lab of these options, and a port with the echo handler on each of its NICs. */
  static async open(options: { lab?: LabOptions; port?: PortsOptions } = {}): Promise<Scene> {
    await warmUp();
    return Scene.openIn(await buildLab(options.lab), options.port);
  }

  /** The same in an existing lab. */
  static async openIn(lab: Lab, options: PortsOptions = {}): Promise<Scene> {
    await warmUp();
    const before = holdings(lab);
    const ports = await openPorts(portsOptions(lab, options));
    onTestFinished(() => ports[0]!.close());
    return new Scene(lab, ports, before);
  }

  get nic(): Nic {
    return this.lab.nic;
  }

  get port(): Port {
    return this.ports[0]!;
  }

  /** A port has been told of all flaps and is done with them: nothing new for a while, and the VF up at last. */
  async settled(number = 0): Promise<void> {
    let seen = -1;
    await until('the VF back in use', async () => {
      const news = this.news.filter(({ port }) => port === number);
      const last = news.at(-1);
      if (news.length === seen && last?.path === 'vf' && last.state === 'up') return true;
      seen = news.length;
      await sleep(100);
      return false;
    });
  }

  /** What the host did and the port did, in ms after `from`: to explain a loss. */
  story(from: number): string {
    const at = (nanos: number): string => `${((nanos - from) / 1e6).toFixed(0)}`;
    const host = this.nic.events.map(({ kind, atNanos }) => ({ nanos: atNanos, text: kind as string }));
    const port = this.port.failovers().map(({ queue, to, reason, endedNanos }) => ({
      nanos: endedNanos,
      text: `queue ${queue} to ${to}, ${reason}`,
    }));
    const all = [...host, ...port].sort((a, b) => a.nanos - b.nanos);
    return all.map(({ nanos, text }) => `${at(nanos)}: ${text}`).join('; ');
  }

  /** The open paths of the first port, as last reported. */
  get paths(): OpenPaths {
    return this.port.paths;
  }

  async drive(options: TrafficOptions = {}, nic = this.nic): Promise<Traffic> {
    const traffic = await drive(this.lab, nic, options);
    this.#traffic.push(traffic);
    await passed(traffic, 100);
    return traffic;
  }

  /** Plugs the VF, waits until it owns all queues, moves the data path to it and waits for traffic. */
  async plug(name?: string, nic = this.nic, port = this.port): Promise<void> {
    await nic.plug(name === undefined ? {} : { name });
    await ownedBy(port, 'vf');
    const { rxPackets } = port.stats().paths.vf;
    await nic.moveDataPath('vf');
    if (this.#traffic.length > 0) {
      await until('traffic on the VF', () => port.stats().paths.vf.rxPackets > rxPackets);
    }
  }

  /** Unplugs the VF as a host does: the data path moves first. */
  async unplug(nic = this.nic, port = this.port): Promise<void> {
    await nic.unplug();
    await ownedBy(port, 'synthetic');
  }

  /** Checks that every frame of every worker is in one place, with or without traffic. */
  async whole(): Promise<void> {
    for (const { total, accounted, duplicates } of await this.port.audit()) {
      expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
    }
  }

  /**
   * Stops the traffic, checks frames and counters, closes the ports and checks that nothing is left.
   *
   * @returns the report of each traffic, in the order of their starts
   */
  async finish(): Promise<TrafficReport[]> {
    const reports: TrafficReport[] = [];
    for (const traffic of this.#traffic) reports.push(await traffic.stop({ settleMillis: 400 }));
    for (const { packets, icmp } of reports) {
      expect(packets).toMatchObject({ duplicated: 0, unknown: 0 });
      expect(icmp).toMatchObject({ duplicated: 0, unknown: 0 });
    }
    await this.whole();
    for (const port of this.ports) await addsUp(port);
    await this.close();
    return reports;
  }

  async close(): Promise<void> {
    const numbers = this.ports.map((port) => port.stats());
    await this.port.close();
    this.ports.forEach((port, i) => {
      expect(port.stats().received).toBeGreaterThanOrEqual(numbers[i]!.received);
    });
    await nothingLeft(this.lab, this.#before);
  }
}

/** Checks that nothing of a port is left in the guest, nor (with `before`) in this process. */
export async function nothingLeft(lab: Lab, before?: Holdings): Promise<void> {
  const left = (): unknown => ({ attachments: attachments(lab.guest), ...(before && holdings(lab)) });
  const nothing = { attachments: [], ...before };
  const same = (): boolean => JSON.stringify(left()) === JSON.stringify(nothing);
  await until('nothing left', same, LEFTOVER_MILLIS).catch(() => {});
  expect(left()).toEqual(nothing);
}

/** Checks that each packet is in one counter, once none is in flight: imbalances.ts has the equations. */
export async function addsUp(port: Port): Promise<void> {
  await until('the counters settle', () => imbalances(port.stats()).length === 0, 2_000).catch(() => {});
  expect(imbalances(port.stats())).toEqual([]);
}

/** Checks that no packet was lost, doubled or reordered. */
export function expectUnharmed({ packets, icmp }: TrafficReport): void {
  expect(packets).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
  expect(icmp).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
  expect(icmp.received).toBeGreaterThan(0);
}

/** The default driver of a tap and the default redirect on this kernel, as the port describes them. */
export const TAP_MODE = kernelIsAtLeast(6, 10) ? 'io_uring' : 'read/write (io_uring refused: EINVAL)';
export const REDIRECT = kernelIsAtLeast(6, 6) ? 'tcx links' : 'clsact filters';

/** Checks that no counter of drops or errors has counted. */
export function expectNoDrops(port: Port): void {
  const { dropped, paths } = port.stats();
  expect(Object.entries(dropped).filter(([, packets]) => packets > 0)).toEqual([]);
  for (const { txErrors, txUnknown, rxErrors, kernel } of Object.values(paths)) {
    expect({ txErrors, txUnknown, rxErrors, ...kernel }).toEqual({
      ...{ txErrors: 0, txUnknown: 0, rxErrors: 0 },
      ...NOTHING_DROPPED,
    });
  }
}

/** A packet may have been in flight for so long when an event met it, on a busy machine. */
const UNDER_WAY_NANOS = 100e6;

/**
 * Losses that were sent neither in these stretches of time nor in flight when one began: in an emulated machine packets are
 * in flight for as long as the longest round trip.
 *
 * @returns runs of such losses, with the times at which they were sent, after the first stretch began
 */
export function unexplained(
  report: TrafficReport,
  stretches: readonly (readonly [from: number, to: number])[],
): string[] {
  const underWay = Math.max(UNDER_WAY_NANOS, report.latency.max * 1e3);
  const losses = [...report.lostAt, ...report.icmpLostAt]
    .filter((at) => !stretches.some(([from, to]) => at >= from - underWay && at < to))
    .sort((a, b) => a - b);
  const runs: { from: number; to: number; packets: number }[] = [];
  for (const at of losses) {
    const run = runs.at(-1);
    if (run === undefined || at - run.to > UNDER_WAY_NANOS) runs.push({ from: at, to: at, packets: 1 });
    else Object.assign(run, { to: at, packets: run.packets + 1 });
  }
  const millis = (at: number): string => ((at - (stretches[0]?.[0] ?? 0)) / 1e6).toFixed(0);
  return runs.map(({ from, to, packets }) => `${packets} sent from ${millis(from)} to ${millis(to)} ms`);
}
