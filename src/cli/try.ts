/**
 * `twinpath try HANDLER`: a port with that handler in a private network, and a shell to send it packets from.
 *
 * The network is a lab (src/lab): the port is on the guest's NIC, and the shell or the command of --exec runs in the outside
 * namespace, which is the peer's. Both end before the lab is closed. After SIGKILL the guard removes the lab.
 */
import { isatty } from 'node:tty';
import { TwinpathError } from '../errors.ts';
import { isRoot } from '../kernel/machine.ts';
import { LabGuard } from '../lab/cleanup.ts';
import { Lab } from '../lab/host.ts';
import { openPort, type Port } from '../port.ts';
import { type Arguments, oneOf, pairs, text, whole } from './arguments.ts';
import { type Command, type CommandContext, EXIT, EXITS } from './command.ts';
import { BUILT_IN, checkOptionless, handlerUrl, withAddress } from './handler-name.ts';
import { unlessInterrupted } from './interruption.ts';
import { commandLine, runInPeer, userShell } from './peer-command.ts';
import { type PortReport, reportOn, summary } from './port-report.ts';
import { hints, isInstalled } from './try-hints.ts';
import { cycleVf, plugVf } from './vf-moves.ts';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

export const tryHandler: Command = {
  table: {
    name: 'try',
    summary: 'runs a handler in a private network, with a shell to send it packets from',
    positionals: ['HANDLER'],
    options: {
      option: { value: 'KEY=VALUE', help: 'an option of the handler', repeatable: true },
      exec: { value: 'CMD', help: 'run this command line with sh instead of a shell, and end when it ends' },
      queues: { value: 'N', help: 'queues and worker threads, 1 to 16', otherwise: '1' },
      host: {
        value: 'MODE',
        help: "the guest's own stack: ingress, inline (the handler also gets what it sends) or off",
        otherwise: 'ingress',
      },
      vf: { help: 'plug in a VF' },
      'vf-cycle': {
        value: 'N',
        help: 'unplug the VF and plug it in again, each after so many seconds, 1 to 3600',
      },
      arp: { help: 'let the peer find MAC addresses by ARP; by default it has static entries' },
    },
    notes: [
      `HANDLER is the path of a JavaScript or WebAssembly module, or a built-in handler: ${BUILT_IN.slice(0, 5).join(', ')},\n` +
        `${BUILT_IN.slice(5).join(', ')}. "twinpath run --help" describes them. A built-in handler that takes an address gets\n` +
        'the address of the guest, unless --option gives one.',
      'The handler serves the network card of a guest, 10.77.0.2. The shell, from SHELL, runs in the network\n' +
        'namespace of its peer, 10.77.0.1. It sees all files and processes of the machine. The network stack\n' +
        'of the guest gets the packets that the handler passes. The network has no IPv6.',
      'When the shell or the command ends, all processes in the network are ended and the network is removed.\n' +
        'Without a terminal the shell reads commands from standard input. Its exit code is that of "twinpath try".',
      'The shell or the command writes to standard output; statistics and events go to standard error. With\n' +
        '--json the statistics go to standard output as one JSON document, and the output of the shell or the\n' +
        'command goes to standard error. Needs root and iproute2.',
    ],
    examples: [
      ['twinpath try echo', 'a shell; type ping 10.77.0.2 in it'],
      ['twinpath try ./handler.js --vf-cycle 5', 'your own handler, through failovers'],
      ["twinpath try ./handler.js --exec 'ping -c 3 10.77.0.2'", 'a check for scripts'],
      ['twinpath try ./handler.js --json < commands.sh', 'commands from a file, the statistics as JSON'],
    ],
    exits: [
      [EXIT.OK, 'the shell or the command ended with 0, and there was no problem'],
      [EXIT.FAILED, 'could not run, or had a problem; standard error has the reason'],
      ...EXITS,
      [137, 'the shell or the command was killed; all other codes are its own'],
    ],
  },
  run: runTry,
};

async function runTry(args: Arguments, context: CommandContext): Promise<number> {
  const { terminal, interruption } = context;
  const [name] = args.positionals;
  const handler = handlerUrl(name!);
  const handlerOptions = pairs(args, 'option');
  checkOptionless(name!, handlerOptions);
  const options = {
    name: name!,
    handler,
    handlerOptions,
    arp: args.flags.has('arp'),
    line: text(args, 'exec'),
    queues: whole(args, 'queues', 1, 16) ?? 1,
    host: oneOf(args, 'host', ['ingress', 'inline', 'off']),
    cycle: whole(args, 'vf-cycle', 1, 3600),
    vf: args.flags.has('vf') || args.texts.has('vf-cycle'),
    json: args.flags.has('json'),
  } as const;
  if (!isRoot()) throw rootRequired();

  const result = await runInLab(options, context);
  if (result === undefined) {
    terminal.log('twinpath: interrupted before the port was open');
    if (options.json) await terminal.printJson({ ok: false, problems: ['interrupted'] });
    return interruption.exitCode;
  }
  const { report, exitCode } = result;
  if (options.json) await terminal.printJson({ ...report, exitCode });
  else terminal.log(...summary(report).split('\n'));
  for (const problem of new Set(report.problems)) terminal.log(`twinpath: ${problem}`);
  return interruption.exitCode || exitCode || (report.ok ? EXIT.OK : EXIT.FAILED);
}

interface TryOptions {
  readonly name: string;
  readonly handler: URL;
  readonly handlerOptions: Readonly<Record<string, unknown>>;
  readonly arp: boolean;
  /** The command line of --exec. */
  readonly line: string | undefined;
  readonly queues: number;
  readonly host: 'ingress' | 'inline' | 'off' | undefined;
  readonly cycle: number | undefined;
  readonly vf: boolean;
  readonly json: boolean;
}

interface TryResult {
  readonly report: PortReport;
  /** Of the shell or the command. */
  readonly exitCode: number;
}

/** Undefined if it was interrupted before the port was open. When it settles, port and lab are closed. */
async function runInLab(options: TryOptions, context: CommandContext): Promise<TryResult | undefined> {
  const { interruption } = context;
  const guard = LabGuard.start();
  try {
    const lab = await Lab.create({ queues: options.queues, arp: options.arp });
    try {
      const port = await unlessInterrupted(interruption.signal, (signal) =>
        openPort({
          netns: lab.guest,
          netvsc: lab.nic.netvsc,
          force: true,
          host: options.host,
          queues: options.queues,
          handler: options.handler,
          handlerOptions: withAddress(options.name, options.handlerOptions, lab.nic.guestAddress),
          signal,
        }),
      );
      return port && (await runPeer(port, lab, options, context));
    } finally {
      await lab.close();
    }
  } finally {
    guard.release();
  }
}

/** Runs the shell or the command to its end, then closes the port. */
async function runPeer(
  port: Port,
  lab: Lab,
  { name, handlerOptions, line, vf, cycle, json }: TryOptions,
  { terminal, interruption }: CommandContext,
): Promise<TryResult> {
  const { nic } = lab;
  const hasTerminal = isatty(STDIN) && isatty(STDERR);
  let exitCode = 0;
  const use = async (addProblem: (problem: string) => void): Promise<void> => {
    if (vf) await plugVf({ port, nic });
    if (line === undefined && hasTerminal) {
      const udpPort = typeof handlerOptions.port === 'number' ? handlerOptions.port : name === 'dns' ? 53 : 7;
      const { guestAddress, outsideDevice } = nic;
      terminal.log(
        `${name} is at ${guestAddress}. This shell is at ${nic.outsideAddress}, in a private network. Type`,
        ...hints({ guestAddress, device: outsideDevice, guest: lab.guest, udpPort }, isInstalled),
      );
    }
    const command = line === undefined ? userShell(process.env, hasTerminal) : commandLine(line, process.env);
    const ended = new AbortController();
    const cycling =
      cycle === undefined
        ? undefined
        : cycleVf({ port, nic }, cycle, ended.signal).catch(({ message }) => addProblem(message));
    try {
      exitCode = await runInPeer(lab, command, json ? STDERR : STDOUT, interruption);
    } finally {
      ended.abort();
      await cycling;
    }
    if (interruption.received !== undefined) addProblem('interrupted');
  };
  const report = await reportOn(port, terminal, use, 'few');
  return { report, exitCode };
}

function rootRequired(): TwinpathError {
  return new TwinpathError('ERR_PERMISSION', {
    detail: 'creating network namespaces and opening a port in them requires root',
    hint: 'Try sudo env "PATH=$PATH" twinpath try …. Without root, "twinpath demo" shows a port in memory.',
  });
}
