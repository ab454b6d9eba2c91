/**
 * `twinpath demo`: a port under load whose VF comes and goes, shown live, with a ledger at the end. Two scenarios, each
 * with its own port: numbered packets, and a TCP download.
 *
 * As root it builds a Hyper-V host out of network namespaces (src/lab), with kernel devices and kernel stacks. Without
 * root the same port runs on the memory path. Exit code 0 means that every promise was kept.
 */
import { isRoot } from '../../kernel/machine.ts';
import { type Arguments, oneOf, whole } from '../arguments.ts';
import { type Command, type CommandContext, EXIT, EXITS } from '../command.ts';
import { PAGE_OPTION, type PageAddresses, pagesOf } from '../pages.ts';
import { ledgerText } from './display.ts';
import { demoLedger } from './ledger.ts';
import {
  downloadSeconds,
  MAX_DOWNLOAD_SECONDS,
  MIN_DOWNLOAD_SECONDS,
  runDownloadScenario,
  runTrafficScenario,
} from './scenario.ts';

const SECONDS = 12;
const QUEUES = 2;
const RATE = 20_000;

export const demo: Command = {
  table: {
    name: 'demo',
    summary: 'sends numbered traffic through a port while its VF comes and goes, and prints the result',
    positionals: [],
    options: {
      seconds: { value: 'N', help: 'seconds of numbered traffic, 3 to 3600', otherwise: `${SECONDS}` },
      queues: { value: 'N', help: 'queues and worker threads, 1 to 16', otherwise: `${QUEUES}` },
      rate: { value: 'N', help: 'UDP packets a second, 100 to 10000000', otherwise: `${RATE}` },
      'no-tcp': { help: 'skip the TCP download' },
      mode: { value: 'MODE', help: 'poll, adaptive or interrupt', otherwise: 'adaptive' },
      memory: { help: 'use the memory path even as root' },
      page: PAGE_OPTION,
      'stand-in': { value: 'KIND', help: 'what plays NetVSC: veth or bridge', otherwise: 'veth' },
      tap: { value: 'WAY', help: 'how the tap is driven: io_uring or read/write', otherwise: 'io_uring' },
      redirect: {
        value: 'WAY',
        help: 'how packets pass between the tap and the NetVSC: tcx or clsact',
        otherwise: 'tcx',
      },
    },
    notes: [
      'As root the demo uses kernel devices in private network namespaces (needs iproute2), and changes nothing\n' +
        'else on the machine. Otherwise it uses the memory path: the same port, threads and failover,\n' +
        'with a thread as the network.',
      "Then the guest's own kernel stack downloads by TCP through such a port (host: 'inline'), for half of --seconds,\n" +
        `${MIN_DOWNLOAD_SECONDS} at least and ${MAX_DOWNLOAD_SECONDS} at most. The memory path has no kernel stack and skips it.`,
      'Progress goes to standard error, the ledger to standard output.',
    ],
    examples: [
      ['twinpath demo', '12 seconds of packets, six of a download'],
      ['twinpath demo --no-tcp --seconds 5 --json', 'the ledger as JSON'],
      ['twinpath demo --stand-in bridge --redirect clsact', 'another stand-in, another redirect'],
    ],
    exits: [
      [
        EXIT.OK,
        'lost packets only in the surprise, none duplicated or reordered; every frame accounted for; the download survived',
      ],
      [EXIT.FAILED, 'one of these is not true, or the demo could not run; standard error has the reason'],
      ...EXITS,
    ],
  },
  run: runDemo,
};

async function runDemo(args: Arguments, context: CommandContext): Promise<number> {
  const { terminal, interruption } = context;
  const seconds = whole(args, 'seconds', 3, 3600) ?? SECONDS;
  const network = !isRoot() || args.flags.has('memory') ? 'memory' : 'kernel';
  const tcp = !args.flags.has('no-tcp');
  const options = {
    queues: whole(args, 'queues', 1, 16) ?? QUEUES,
    mode: oneOf(args, 'mode', ['poll', 'adaptive', 'interrupt']),
    standIn: oneOf(args, 'stand-in', ['veth', 'bridge']) ?? 'veth',
    tap: oneOf(args, 'tap', ['io_uring', 'read/write']),
    redirect: oneOf(args, 'redirect', ['tcx', 'clsact']),
    pages: pagesOf(args),
  } as const;
  const rate = whole(args, 'rate', 100, 10_000_000) ?? RATE;
  if (network === 'kernel') {
    terminal.log('Building a Hyper-V host out of network namespaces.');
  } else {
    terminal.log(`${isRoot() ? 'As asked' : 'Not root'}: the memory path, with a thread for a network.`);
    terminal.log('The port, its workers and its failovers are the same; root adds kernel devices to them.');
    if (tcp) terminal.log('No TCP download: that takes a kernel with a stack of its own.');
  }
  terminal.log(...attachments(network, options.pages));

  const evidence = await runTrafficScenario({ ...options, network, rate }, seconds, context);
  let download: Awaited<ReturnType<typeof runDownloadScenario>>;
  if (evidence && tcp && network === 'kernel') {
    terminal.log('Second scenario: a TCP download by the guest, its own stack behind the port.');
    download = await runDownloadScenario(options, downloadSeconds(seconds), context);
  }
  if (!evidence || interruption.signal.aborted) {
    terminal.log('twinpath: interrupted; the lab is removed, and there is no ledger');
    if (args.flags.has('json')) await terminal.printJson({ ok: false, problems: ['interrupted'] });
    return interruption.exitCode;
  }
  const ledger = demoLedger({ ...evidence, download });
  if (terminal.live) terminal.log('');
  if (args.flags.has('json')) await terminal.printJson(ledger);
  else await terminal.print(ledgerText(ledger));
  for (const problem of ledger.problems) terminal.log(`twinpath: ${problem}`);
  return ledger.ok ? EXIT.OK : EXIT.FAILED;
}

/** How to see and capture the demo's port from elsewhere. A port in memory has no control socket. */
function attachments(network: 'memory' | 'kernel', { page }: PageAddresses): string[] {
  const line = (command: string, what: string): string => `  ${command.padEnd(46)} ${what}`;
  const { pid } = process;
  return [
    ...(network === 'kernel'
      ? [
          'Attach from another terminal:',
          line('twinpath ps', 'the ports that run'),
          line(`twinpath top ${pid}`, 'rates, drops, failovers'),
          line(`twinpath capture ${pid} -w - | tcpdump -nr -`, 'its packets'),
        ]
      : []),
    ...(page === undefined
      ? ['In a browser, with rates, owners and failovers over time: twinpath demo --page 9080.']
      : []),
  ];
}
