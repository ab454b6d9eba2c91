/**
 * `twinpath run HANDLER`: a port with that handler until Ctrl-C, then its statistics.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { nowNanos } from '../memory/shared.ts';
import { openPort, type Port } from '../port.ts';
import type { PortStatistics } from '../statistics.ts';
import { type Arguments, oneOf, pairs, text, whole } from './arguments.ts';
import { type Command, type CommandContext, EXIT } from './command.ts';
import { BUILT_IN_HELP, checkOptionless, handlerUrl } from './handler-name.ts';
import { columns } from './help.ts';
import { unlessInterrupted } from './interruption.ts';
import { count, reportOn, summary } from './port-report.ts';
import type { Terminal } from './terminal.ts';

export const run: Command = {
  table: {
    name: 'run',
    summary: 'opens a port with a handler and runs it until Ctrl-C',
    positionals: ['HANDLER'],
    options: {
      device: {
        value: 'NAME',
        help: 'any network card, by name, MAC or PCI address: its pair, or the card alone',
        otherwise: 'the pair without an address',
      },
      netvsc: { value: 'NAME', help: 'the NetVSC: interface name or MAC' },
      mac: { value: 'MAC', help: 'the NetVSC by its MAC address' },
      vf: { value: 'NAME', help: 'the VF, by name, MAC or PCI address: stands for its NetVSC' },
      force: { help: 'take the named device although it is no NetVSC' },
      option: { value: 'KEY=VALUE', help: 'an option of the handler', repeatable: true },
      queues: { value: 'N', help: 'queues and worker threads, 1 to 64', otherwise: 'one per CPU, 8 at most' },
      mode: { value: 'MODE', help: 'when idle: poll, adaptive or interrupt', otherwise: 'adaptive' },
      'frame-size': { value: 'BYTES', help: 'of a packet frame: 2048 or 4096', otherwise: '2048' },
      frames: { value: 'N', help: 'frames of each queue, 4096 to 65536 by powers of two', otherwise: '8192' },
      pin: { help: 'pin worker i to CPU i' },
      netns: { value: 'NAME', help: 'network namespace of the devices', otherwise: "the process's" },
      tap: { value: 'WAY', help: 'how the tap is driven: io_uring or read/write', otherwise: 'io_uring' },
      redirect: {
        value: 'WAY',
        help: 'how packets go between it and the NetVSC: tcx or clsact',
        otherwise: 'tcx',
      },
      'redirect-order': {
        value: 'PLACE',
        help: "its tcx programs come first or last among others' at the NetVSC",
        otherwise: 'first',
      },
      xdp: { value: 'HOOK', help: "of a VF: native (its driver's alone) or any", otherwise: 'any' },
      host: {
        value: 'MODE',
        help: "the machine's own stack: ingress, inline (what it sends is handled too) or off",
        otherwise: 'ingress',
      },
      'cut-host': { help: 'with --host off: take even the interface that has the default route' },
      protect: {
        value: 'WHAT',
        help: 'goes round the handler: platform (what a machine on Azure needs) or none',
        otherwise: 'platform with the default route',
      },
      rss: { value: 'WHO', help: 'spreads flows over queues: auto, software or device', otherwise: 'auto' },
      'rss-key': {
        value: 'KEY',
        help: 'of the RSS hash: default, symmetric, or 80 hexadecimal digits',
        otherwise: 'default',
      },
      'stuck-millis': {
        value: 'N',
        help: 'a handler that has not returned for so long has its worker replaced',
        otherwise: '2000',
      },
      'load-millis': {
        value: 'N',
        help: 'a handler that has not been loaded for so long counts as failed',
        otherwise: '30000',
      },
      seconds: { value: 'N', help: 'end after so long, 1 to 1000000', otherwise: 'never' },
    },
    notes: [
      'HANDLER is the path of a JavaScript or WebAssembly module, or one of these, each with the names of\n' +
        `its options:\n${columns(BUILT_IN_HELP)}\n` +
        '(*) needs one Ethernet, with its peers in it: a virtual network of Azure forwards by IP address\n' +
        'alone, and takes no notice of the MAC address that such a handler sends to.',
      'A value of --option that is JSON (7, true, ["a","b"]) is passed as such, every other as text.',
      'Events go to standard error. At the end the statistics go to standard output; a second Ctrl-C\n' +
        'ends at once, without them. Needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF\n' +
        'and CAP_IPC_LOCK; with --netns CAP_SYS_ADMIN too.',
    ],
    examples: [
      ['twinpath run echo --option address=10.0.0.5', 'answer ping and UDP echo for an address'],
      ['twinpath run host --host inline', "all the machine's own traffic, both ways, with failover"],
      ['twinpath run ./handler.js --netvsc eth1 --queues 4', 'a handler of your own, on that device'],
      [
        'twinpath run count --device ens5 --option otherwise=pass --seconds 10',
        'look at one card for a while',
      ],
    ],
    exits: [
      [EXIT.OK, 'ended as asked, by Ctrl-C, SIGTERM or --seconds, and all was well'],
      [EXIT.FAILED, 'could not run, or something went wrong; standard error says what'],
      [EXIT.USAGE, 'the command line was wrong'],
      [130, 'Ctrl-C before the port was open, or a second one; 143 by SIGTERM'],
    ],
  },
  run: runPort,
};

async function runPort(args: Arguments, { terminal, interruption }: CommandContext): Promise<number> {
  const [name] = args.positionals;
  const handler = handlerUrl(name!);
  const handlerOptions = pairs(args, 'option');
  checkOptionless(name!, handlerOptions);
  const seconds = whole(args, 'seconds', 1, 1_000_000);
  const port = await unlessInterrupted(interruption.signal, (signal) =>
    openPort({
      ...{ device: text(args, 'device'), netvsc: text(args, 'netvsc') },
      ...{ mac: text(args, 'mac'), vf: text(args, 'vf') },
      force: args.flags.has('force'),
      ...{ handler, handlerOptions },
      queues: whole(args, 'queues', 1, 64),
      mode: oneOf(args, 'mode', ['poll', 'adaptive', 'interrupt']),
      frameSize: whole(args, 'frame-size', 0, 65_536),
      frames: whole(args, 'frames', 0, 1_000_000),
      pin: args.flags.has('pin'),
      netns: text(args, 'netns'),
      tap: oneOf(args, 'tap', ['io_uring', 'read/write']),
      redirect: oneOf(args, 'redirect', ['tcx', 'clsact']),
      redirectOrder: oneOf(args, 'redirect-order', ['first', 'last']),
      xdp: oneOf(args, 'xdp', ['native', 'any']),
      host: oneOf(args, 'host', ['ingress', 'inline', 'off']),
      cutHost: args.flags.has('cut-host'),
      protect: oneOf(args, 'protect', ['platform', 'none']),
      rss: oneOf(args, 'rss', ['auto', 'software', 'device']),
      rssKey: text(args, 'rss-key'),
      stuckMillis: whole(args, 'stuck-millis', 100, 60_000),
      loadMillis: whole(args, 'load-millis', 100, 600_000),
      signal,
    }),
  );
  if (port === undefined) {
    terminal.log('twinpath: interrupted before the port was open; nothing is left of it');
    if (args.flags.has('json')) await terminal.printJson({ ok: false, problems: ['interrupted'] });
    return interruption.exitCode;
  }
  const report = await reportOn(port, terminal, async () => {
    terminal.log(`${port.device} (${port.mac}) is open; Ctrl-C ends it`);
    const timer = terminal.live ? setInterval(showRate(port, terminal), 1000) : undefined;
    await ended(interruption.signal, port, seconds);
    clearInterval(timer);
    terminal.panel([]);
  });
  if (args.flags.has('json')) await terminal.printJson(report);
  else await terminal.print(summary(report));
  for (const problem of new Set(report.problems)) terminal.log(`twinpath: ${problem}`);
  return report.ok ? EXIT.OK : EXIT.FAILED;
}

/** Until it is interrupted, the time is over, or the port has closed by itself. */
async function ended(interrupted: AbortSignal, port: Port, seconds: number | undefined): Promise<void> {
  const closed = new AbortController();
  port.once('close', () => closed.abort());
  const signal = AbortSignal.any([interrupted, closed.signal]);
  const deadline = nowNanos() + (seconds ?? Number.POSITIVE_INFINITY) * 1e9;
  // A timer holds no more than 24 days.
  while (!signal.aborted && nowNanos() < deadline) {
    const millis = Math.min((deadline - nowNanos()) / 1e6, 3_600_000);
    await sleep(Math.max(1, millis), undefined, { signal }).catch(() => {});
  }
}

function showRate(port: Port, terminal: Terminal): () => void {
  let before = port.stats();
  let at = nowNanos();
  return () => {
    const now = port.stats();
    const nanos = nowNanos();
    const rate = (of: (stats: PortStatistics) => number): string =>
      count(((of(now) - of(before)) / (nanos - at)) * 1e9);
    const owners = [...new Set(now.queues.map(({ owner }) => owner))].join(' and ');
    terminal.panel([
      `${owners}: ${rate((s) => s.received)} packets/s in, ${rate((s) => s.transmitted)} out; ${count(now.received)} in all`,
    ]);
    before = now;
    at = nanos;
  };
}
