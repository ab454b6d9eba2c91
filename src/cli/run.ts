/**
 * `twinpath run HANDLER`: a port with that handler until Ctrl-C, then its statistics.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConfigurationChange, IDLE_MODES } from '../configuration.ts';
import type { MetadataName } from '../memory/metadata.ts';
import { nowNanos } from '../memory/shared.ts';
import { openPort, type Port } from '../port.ts';
import type { HashType } from '../rss/configuration.ts';
import type { PortStatistics } from '../statistics.ts';
import { invalid } from '../validation.ts';
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
        help: 'a network card, by name, MAC or PCI address: its pair, or the card alone',
        otherwise: 'the pair without an address',
      },
      netvsc: { value: 'NAME', help: 'the NetVSC: interface name or MAC' },
      mac: { value: 'MAC', help: 'the NetVSC by its MAC address' },
      vf: { value: 'NAME', help: 'the VF of the NetVSC, by name, MAC or PCI address' },
      'no-vf': { help: 'use no VF' },
      force: { help: 'use the named device although it is not a NetVSC' },
      option: { value: 'KEY=VALUE', help: 'an option of the handler', repeatable: true },
      mtu: {
        value: 'BYTES',
        help: 'MTU of both paths while the port is open',
        otherwise: 'as the devices have it',
      },
      'set-mac': { value: 'MAC', help: 'MAC address of both paths while the port is open' },
      unicast: { value: 'MAC', help: 'a unicast address to accept beside it', repeatable: true },
      multicast: { value: 'MAC', help: 'a multicast address to accept', repeatable: true },
      promiscuous: { help: 'accept packets for any address' },
      rule: {
        value: 'RULE',
        help: "which packets the handler gets: 'udp dst port 53 to handler'",
        repeatable: true,
      },
      isolate: { help: "leave what matches no rule to the machine's own stack" },
      'all-multicast': { help: 'accept packets for any multicast address' },
      'mac-filter': { help: 'give the handler only packets for the addresses above' },
      queues: { value: 'N', help: 'queues and worker threads, 1 to 64', otherwise: 'one per CPU, 8 at most' },
      mode: { value: 'MODE', help: 'when idle: poll, adaptive or interrupt', otherwise: 'adaptive' },
      'frame-size': {
        value: 'BYTES',
        help: 'size of a packet frame: 2048, 4096 or 16384',
        otherwise: '2048',
      },
      frames: {
        value: 'N',
        help: 'frames of each queue, a power of two from 4096 to 65536',
        otherwise: '8192',
      },
      pin: { help: 'pin worker i to CPU i' },
      netns: { value: 'NAME', help: 'network namespace of the devices', otherwise: "the process's" },
      tap: { value: 'WAY', help: 'how the tap is driven: io_uring or read/write', otherwise: 'io_uring' },
      redirect: {
        value: 'WAY',
        help: 'how packets pass between the tap and the NetVSC: tcx or clsact',
        otherwise: 'tcx',
      },
      'redirect-order': {
        value: 'PLACE',
        help: 'place of its tcx programs among others at the NetVSC: first or last',
        otherwise: 'first',
      },
      xdp: {
        value: 'HOOK',
        help: 'where XDP runs on a VF: native (only in its driver) or any',
        otherwise: 'any',
      },
      host: {
        value: 'MODE',
        help: "the machine's own stack: ingress, inline (the handler also gets what it sends) or off",
        otherwise: 'ingress',
      },
      'cut-host': { help: 'with --host off: allow the interface that has the default route' },
      protect: {
        value: 'WHAT',
        help: 'packets that bypass the handler: platform (needed on Azure) or none',
        otherwise: 'platform with the default route',
      },
      rss: {
        value: 'WHO',
        help: 'what spreads flows over queues: auto, software or device',
        otherwise: 'auto',
      },
      'rss-key': {
        value: 'KEY',
        help: 'key of the RSS hash: default, symmetric, or 80 hexadecimal digits',
        otherwise: 'default',
      },
      'rss-table': {
        value: 'QUEUES',
        help: 'queue of each hash: 128 numbers with commas, or a power of two below, which repeat',
        otherwise: 'all queues in turn',
      },
      'hash-types': {
        value: 'TYPES',
        help: 'what is hashed, with commas: ipv4, tcp4, udp4, ipv6, tcp6, udp6',
        otherwise: 'all of them',
      },
      metadata: {
        value: 'NAMES',
        help: 'metadata for the handler: time,hash,checksum,rule,tag,offload',
        otherwise: 'what its module asks for',
      },
      'stuck-millis': {
        value: 'N',
        help: 'replace the worker if the handler has not returned for so long',
        otherwise: '2000',
      },
      'load-millis': {
        value: 'N',
        help: 'give up loading the handler after so long',
        otherwise: '30000',
      },
      seconds: { value: 'N', help: 'end after so many seconds, 1 to 1000000', otherwise: 'never' },
    },
    notes: [
      'HANDLER is the path of a JavaScript or WebAssembly module, or one of these, listed with the names of\n' +
        `their options:\n${columns(BUILT_IN_HELP)}\n` +
        '(*) needs its peers in the same Ethernet. A virtual network of Azure forwards by IP address and ignores\n' +
        'the MAC address to which such a handler sends.',
      'A value of --option that is JSON (7, true, ["a","b"]) is parsed; every other value is text.',
      'Events go to standard error. At the end the statistics go to standard output. A second Ctrl-C\n' +
        'ends the command at once, without statistics. Needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF\n' +
        'and CAP_IPC_LOCK; with --netns CAP_SYS_ADMIN too.',
    ],
    examples: [
      ['twinpath run echo --option address=10.0.0.5', 'answer ping and UDP echo for an address'],
      ['twinpath run host --host inline', "all traffic of the machine's own stack, with failover"],
      ['twinpath run ./handler.js --netvsc eth1 --queues 4', 'your own handler, on that device'],
      [
        'twinpath run count --device ens5 --option otherwise=pass --seconds 10',
        'count the flows of one card for 10 seconds',
      ],
    ],
    exits: [
      [EXIT.OK, 'ended by Ctrl-C, SIGTERM or --seconds, without a problem'],
      [EXIT.FAILED, 'could not run, or had a problem; standard error has the reason'],
      [EXIT.USAGE, 'the command line was wrong'],
      [130, 'Ctrl-C before the port was open, or a second Ctrl-C; 143 for SIGTERM'],
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
      device: text(args, 'device'),
      netvsc: text(args, 'netvsc'),
      mac: text(args, 'mac'),
      vf: vfOf(args),
      force: args.flags.has('force'),
      configuration: configurationOf(args),
      handler,
      handlerOptions,
      queues: whole(args, 'queues', 1, 64),
      mode: oneOf(args, 'mode', IDLE_MODES),
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
      metadata: text(args, 'metadata')?.split(',') as MetadataName[] | undefined, // checked by openPort
      stuckMillis: whole(args, 'stuck-millis', 100, 60_000),
      loadMillis: whole(args, 'load-millis', 100, 600_000),
      signal,
    }),
  );
  if (port === undefined) {
    terminal.log('twinpath: interrupted before the port was open');
    if (args.flags.has('json')) await terminal.printJson({ ok: false, problems: ['interrupted'] });
    return interruption.exitCode;
  }
  const report = await reportOn(port, terminal, async () => {
    terminal.log(`${port.device} (${port.mac}) is open; Ctrl-C ends it`);
    const timer = terminal.live ? setInterval(showRate(port, terminal), 1000) : undefined;
    await untilEnd(interruption.signal, port, seconds);
    clearInterval(timer);
    terminal.panel([]);
  });
  if (args.flags.has('json')) await terminal.printJson(report);
  else await terminal.print(summary(report));
  for (const problem of new Set(report.problems)) terminal.log(`twinpath: ${problem}`);
  return report.ok ? EXIT.OK : EXIT.FAILED;
}

/** @throws ERR_OPTION_INVALID */
function vfOf(args: Arguments): string | false | undefined {
  const name = text(args, 'vf');
  if (!args.flags.has('no-vf')) return name;
  return name === undefined ? false : invalid('--no-vf', 'it contradicts --vf');
}

function configurationOf(args: Arguments): ConfigurationChange {
  return {
    mtu: whole(args, 'mtu', 0, 65_536),
    mac: text(args, 'set-mac'),
    unicast: args.texts.get('unicast'),
    multicast: args.texts.get('multicast'),
    promiscuous: args.flags.has('promiscuous') || undefined,
    allMulticast: args.flags.has('all-multicast') || undefined,
    macFilter: args.flags.has('mac-filter') || undefined,
    rules: args.texts.get('rule'),
    isolate: args.flags.has('isolate') || undefined,
    rss: {
      table: words(args, 'rss-table')?.map((word) => (/^\d+$/.test(word) ? Number(word) : word) as number),
      hashTypes: words(args, 'hash-types') as HashType[] | undefined,
    },
  };
}

/** Checked where all of the configuration is. */
const words = (args: Arguments, name: string): string[] | undefined => text(args, name)?.split(',');

/** Resolves when the command is interrupted, the time is over, or the port has closed by itself. */
async function untilEnd(interrupted: AbortSignal, port: Port, seconds: number | undefined): Promise<void> {
  const closed = new AbortController();
  port.once('close', () => closed.abort());
  const signal = AbortSignal.any([interrupted, closed.signal]);
  const deadline = nowNanos() + (seconds ?? Number.POSITIVE_INFINITY) * 1e9;
  // A timer takes at most 24 days.
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
      `${owners}: ${rate((s) => s.received)} packets/s in, ${rate((s) => s.transmitted)} out; ${count(now.received)} in total`,
    ]);
    before = now;
    at = nanos;
  };
}
