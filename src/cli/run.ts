/**
 * `twinpath run HANDLER`: a port with that handler until Ctrl-C, then its statistics.
 */
import { type ConfigurationChange, IDLE_MODES } from '../configuration.ts';
import type { MetadataName } from '../memory/metadata.ts';
import type { OpenPortsOptions } from '../options.ts';
import { openPorts } from '../port.ts';
import type { ReplayReport } from '../replay/replay.ts';
import type { HashType } from '../rss/configuration.ts';
import { invalid } from '../validation.ts';
import { type Arguments, oneOf, pairs, text, whole } from './arguments.ts';
import { type Command, type CommandContext, EXIT } from './command.ts';
import { BUILT_IN_HELP, checkOptionless, handlerUrl } from './handler-name.ts';
import { columns } from './help.ts';
import { unlessInterrupted } from './interruption.ts';
import { PAGE_OPTION } from './pages.ts';
import { reportOnAll, summary } from './port-report.ts';
import { networkOf, replayLines, untilReplayed } from './replay.ts';
import { runningOptions, runUntilEnd } from './running.ts';

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
        repeatable: true,
      },
      all: { help: 'a port on every pair without an address' },
      ignore: { value: 'NAME', help: 'a device that is never taken, nor its pair', repeatable: true },
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
      maintenance: {
        value: 'WHO',
        help: 'who announces maintenance: azure. Its events are printed, and before a freeze the VF is left',
        otherwise: 'nobody',
      },
      network: {
        value: 'pcap:FILE',
        help: 'play a capture file into the port in place of a device, and end with it; see below',
        otherwise: 'devices',
      },
      'no-control': {
        help: 'open no control socket: twinpath ps, stats, top, set and stop do not see the port',
      },
      metrics: { value: 'ADDRESS:PORT', help: 'serve GET /metrics for Prometheus there', otherwise: 'no' },
      health: {
        value: 'ADDRESS:PORT',
        help: 'serve GET /health there: 200 while every queue has a path and a worker, else 503',
        otherwise: 'no',
      },
      page: PAGE_OPTION,
      drain: {
        value: 'N',
        help: 'after Ctrl-C or SIGTERM: /health answers 503 for so many seconds before the port closes, 1 to 3600',
        otherwise: 'close at once',
      },
      every: { value: 'N', help: 'print rates every N seconds, 1 to 3600', otherwise: 'no' },
      seconds: { value: 'N', help: 'end after so many seconds, 1 to 1000000', otherwise: 'never' },
    },
    notes: [
      'HANDLER is the path of a JavaScript or WebAssembly module, or one of these, listed with the names of\n' +
        `their options:\n${columns(BUILT_IN_HELP)}\n` +
        'One with * needs its peers in the same Ethernet. A virtual network of Azure forwards by IP address and\n' +
        'ignores the MAC address to which such a handler sends.',
      '--network pcap:FILE[,out=FILE][,speed=N][,times=N][,mac=MAC] needs no root. Speed 1 is that of the recording;\n' +
        'by default each packet comes as soon as there is room. What the handler sends goes to the file after out=.',
      'A value of --option that is JSON (7, true, ["a","b"]) is parsed; every other value is text.',
      'Events go to standard error. At the end the statistics go to standard output. A second Ctrl-C\n' +
        'ends the command at once, without statistics. Needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF\n' +
        'and CAP_IPC_LOCK; with rules or --protect platform CAP_PERFMON, with --netns CAP_SYS_ADMIN too.',
      'Started by systemd or another manager that sets NOTIFY_SOCKET, it says when the ports are open and what they do,\n' +
        'and feeds the watchdog while all of their threads move.',
    ],
    examples: [
      ['twinpath run echo --option address=10.0.0.5', 'answer ping and UDP echo for an address'],
      ['twinpath run host --host inline', "all traffic of the machine's own stack, with failover"],
      ['twinpath run ./handler.js --netvsc eth1 --queues 4', 'your own handler, on that device'],
      [
        'twinpath run ./handler.js --network pcap:in.pcap,out=out.pcapng',
        'your handler over recorded traffic',
      ],
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
  run: runPorts,
};

async function runPorts(args: Arguments, context: CommandContext): Promise<number> {
  const { terminal, interruption } = context;
  const [name] = args.positionals;
  const handler = handlerUrl(name!);
  const handlerOptions = pairs(args, 'option');
  checkOptionless(name!, handlerOptions);
  const running = runningOptions(args);
  const network = networkOf(args);
  const several = args.flags.has('all') || (args.texts.get('device')?.length ?? 0) > 1;
  const opened = await unlessInterrupted(interruption.signal, (signal) =>
    openPorts({
      ...portsOf(args),
      ignore: args.texts.get('ignore'),
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
      maintenance: text(args, 'maintenance'),
      network,
      ...(args.flags.has('no-control') ? { control: false } : {}),
      signal,
    }),
  );
  if (opened === undefined) {
    terminal.log('twinpath: interrupted before the port was open');
    if (args.flags.has('json')) await terminal.printJson({ ok: false, problems: ['interrupted'] });
    return interruption.exitCode;
  }
  let replay: ReplayReport | undefined;
  const reports = await reportOnAll(opened, terminal, async () => {
    const run = (through?: AbortSignal): Promise<void> => runUntilEnd(opened, running, context, through);
    if (network === undefined) await run();
    else replay = await untilReplayed(opened[0]!, run);
  });
  if (args.flags.has('json')) await terminal.printJson(several ? reports : { ...reports[0], replay });
  else {
    const texts = reports.map((report) => `${several ? `${report.device}\n` : ''}${summary(report)}`);
    if (replay !== undefined) texts.push(replayLines(String(network!.pcap), replay).join('\n'));
    await terminal.print(texts.join(replay === undefined ? '\n\n' : '\n'));
  }
  for (const problem of new Set(reports.flatMap(({ problems }) => problems))) {
    terminal.log(`twinpath: ${problem}`);
  }
  return reports.every(({ ok }) => ok) ? EXIT.OK : EXIT.FAILED;
}

/** @throws ERR_OPTION_INVALID */
function portsOf(args: Arguments): Pick<OpenPortsOptions, 'ports' | 'each'> {
  const devices = args.texts.get('device') ?? [];
  const [vf, force, configuration] = [vfOf(args), args.flags.has('force'), configurationOf(args)];
  const [netvsc, mac] = [text(args, 'netvsc'), text(args, 'mac')];
  const given = { '--netvsc': netvsc, '--mac': mac, '--vf': vf || undefined, '--force': force || undefined };
  const naming = Object.entries(given).find(([, value]) => value !== undefined)?.[0];
  if (args.flags.has('all')) {
    const other = devices.length > 0 ? '--device' : naming;
    if (other !== undefined) invalid('--all', `it contradicts ${other}`);
    return { ports: 'all', each: { vf: vf as false | undefined, configuration } };
  }
  if (devices.length > 1) {
    if (naming !== undefined)
      invalid('--device', `given more than once it cannot be combined with ${naming}`);
    return { ports: devices.map((device) => ({ device, vf, configuration })) };
  }
  return { ports: [{ device: devices[0], netvsc, mac, vf, force, configuration }] };
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
