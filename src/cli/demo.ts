/**
 * `twinpath demo`: a port under load whose VF comes and goes, shown live, with a ledger at the end.
 *
 * As root it builds a Hyper-V host out of network namespaces (src/lab) and everything in it is the kernel's
 * own; otherwise the same port runs on the memory path. Exit code 0 means that every promise was kept.
 */
import { isRoot } from '../kernel/identity.ts';
import { nowNanos } from '../memory/shared.ts';
import type { Port } from '../port.ts';
import { type Arguments, oneOf, whole } from './arguments.ts';
import { audited } from './audit.ts';
import { type Command, EXIT, EXITS, type Surroundings } from './command.ts';
import { drawUp } from './demo-ledger.ts';
import { perform } from './demo-script.ts';
import { openStage, type Stage } from './demo-stage.ts';
import { ledgerText, type Moment, panelLines, progressLine } from './demo-text.ts';
import { failoverLine, mergeFailovers } from './failovers.ts';
import type { Terminal } from './terminal.ts';

const SECONDS = 12;
const QUEUES = 2;
const RATE = 20_000;
/** With something lost, stragglers are waited for this long. */
const SETTLE_MILLIS = 700;
const PANEL_MILLIS = 100;

export const demo: Command = {
  table: {
    name: 'demo',
    summary: 'drives numbered traffic through a port while its VF comes and goes, and keeps the ledger',
    positionals: [],
    options: {
      seconds: { value: 'N', help: 'how long traffic runs, 3 to 3600', otherwise: `${SECONDS}` },
      queues: { value: 'N', help: 'queues and worker threads, 1 to 16', otherwise: `${QUEUES}` },
      rate: { value: 'N', help: 'UDP packets a second, 100 to 10000000', otherwise: `${RATE}` },
      mode: { value: 'MODE', help: 'poll, adaptive or interrupt', otherwise: 'adaptive' },
      memory: { help: 'use the memory path also as root' },
      'stand-in': { value: 'KIND', help: 'what plays NetVSC: veth or bridge', otherwise: 'veth' },
      tap: { value: 'WAY', help: 'how the tap is driven: io_uring or read/write', otherwise: 'io_uring' },
      tie: { value: 'WAY', help: 'how it is tied to the NetVSC: tcx or clsact', otherwise: 'tcx' },
    },
    notes: [
      'As root, on kernel devices in network namespaces of its own (needs iproute2); nothing else on the\n' +
        'machine is touched. Otherwise on the memory path: the same port, workers, coordinator and failover,\n' +
        'with the network played by a thread.',
      'Progress goes to standard error, the ledger to standard output.',
    ],
    examples: [
      ['twinpath demo', 'watch it for 12 seconds'],
      ['twinpath demo --seconds 5 --json', 'the ledger for programs'],
      ['twinpath demo --stand-in bridge --tie clsact', 'other ways through the kernel'],
    ],
    exits: [
      [
        EXIT.WELL,
        'nothing lost but in the surprise, nothing doubled or reordered, every frame accounted for',
      ],
      [EXIT.NOT_WELL, 'something was not so, or the demo could not run; standard error says what'],
      ...EXITS,
    ],
  },
  run: runDemo,
};

async function runDemo(args: Arguments, { terminal, interruption }: Surroundings): Promise<number> {
  const seconds = whole(args, 'seconds', 3, 3600) ?? SECONDS;
  const network = !isRoot() || args.flags.has('memory') ? 'memory' : 'kernel';
  const options = {
    network,
    queues: whole(args, 'queues', 1, 16) ?? QUEUES,
    mode: oneOf(args, 'mode', ['poll', 'adaptive', 'interrupt']),
    standIn: oneOf(args, 'stand-in', ['veth', 'bridge']) ?? 'veth',
    tap: oneOf(args, 'tap', ['io_uring', 'read/write']),
    tie: oneOf(args, 'tie', ['tcx', 'clsact']),
    traffic: { rate: whole(args, 'rate', 100, 10_000_000) ?? RATE },
  } as const;
  if (network === 'kernel') terminal.say('Building a Hyper-V host out of network namespaces.');
  else {
    terminal.say(`${isRoot() ? 'As asked' : 'Not root'}: the memory path, with a thread for a network.`);
    terminal.say('The port, its workers and its failovers are the same; root adds kernel devices to them.');
  }

  const stage = await openStage(options);
  try {
    const { port, nic, traffic } = stage;
    const errors: string[] = [];
    port.on('error', ({ message }) => errors.push(message));
    port.on('worker', ({ state, queue, detail }) => {
      if (state === 'died') errors.push(`the worker of queue ${queue} died: ${detail}`);
    });
    const show = new Show(stage, seconds, terminal);
    const { cycles, windows } = await perform(stage, seconds, interruption.signal, (step) =>
      show.step(step),
    ).finally(() => show.end());
    if (interruption.signal.aborted) {
      terminal.say('twinpath: interrupted; the lab is taken down and there is no ledger');
      if (args.flags.has('json'))
        await terminal.print(JSON.stringify({ ok: false, problems: ['interrupted'] }));
      return interruption.exitCode;
    }

    const report = await traffic.stop({ settleMillis: SETTLE_MILLIS });
    const frames = await audited(port);
    const ledger = drawUp({
      ...{ network, privileged: network === 'kernel', seconds, cycles, windows },
      ...{ traffic: report, frames, errors, events: nic.events },
      ...{ statistics: port.stats(), failovers: port.failovers() },
    });
    await terminal.print(args.flags.has('json') ? JSON.stringify(ledger) : ledgerText(ledger));
    for (const problem of ledger.problems) terminal.say(`twinpath: ${problem}`);
    return ledger.ok ? EXIT.WELL : EXIT.NOT_WELL;
  } finally {
    await stage[Symbol.asyncDispose]();
  }
}

/** The demo as it is seen while it runs. */
class Show {
  readonly #stage: Stage;
  readonly #seconds: number;
  readonly #terminal: Terminal;
  readonly #started = nowNanos();
  readonly #timer: NodeJS.Timeout;
  #told = 0;
  #before: { nanos: number; received: number[] } | undefined;

  constructor(stage: Stage, seconds: number, terminal: Terminal) {
    this.#stage = stage;
    this.#seconds = seconds;
    this.#terminal = terminal;
    const { device, mac, paths } = stage.port;
    terminal.say(`Port over ${device} (${mac}), synthetic path: ${describe(paths)}.`);
    this.#timer = setInterval(() => this.#refresh(), terminal.live ? PANEL_MILLIS : 1000);
  }

  step(what: string): void {
    this.#tellFailovers();
    this.#terminal.say(`${this.#elapsed.toFixed(2).padStart(6)} s  ${what}`);
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
    const moment = this.#moment();
    if (this.#terminal.live) this.#terminal.panel(panelLines(moment, this.#terminal));
    else this.#terminal.say(progressLine(moment));
  }

  /** Those of which every queue has reported: the journal gets them queue by queue. */
  #tellFailovers(): void {
    const { port, nic } = this.#stage;
    const queues = port.stats().queues.length;
    const done = mergeFailovers(port.failovers(), nic.events).filter(
      ({ from, queues: told }) => from !== 'none' && told === queues,
    );
    for (const failover of done.slice(this.#told)) this.#terminal.say(`          ${failoverLine(failover)}`);
    this.#told = done.length;
  }

  #moment(): Moment {
    const { port, nic, traffic } = this.#stage;
    const statistics = port.stats();
    const nanos = nowNanos();
    const received = statistics.queues.map(({ paths }) => paths.vf.rxPackets + paths.synthetic.rxPackets);
    const before = this.#before ?? { nanos: this.#started, received: received.map(() => 0) };
    this.#before = { nanos, received };
    return {
      ...{ seconds: this.#elapsed, of: this.#seconds, vf: nic.vf, progress: traffic.progress(), statistics },
      rates: received.map((now, i) => ((now - before.received[i]!) / (nanos - before.nanos)) * 1e9),
      failovers: this.#told,
    };
  }
}

function describe({ synthetic }: Port['paths']): string {
  if (synthetic === undefined) return 'none';
  const { driver, mode, tie } = synthetic;
  return driver === 'memory' ? mode : `${driver}, ${mode}, ${tie}`;
}
