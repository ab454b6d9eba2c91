/**
 * `twinpath try HANDLER`: a port with that handler in a network of its own, and a shell to send it packets from.
 *
 * The network is a lab (src/lab): the port is on the guest's NIC, and the shell or the command of --exec runs in the
 * namespace outside, the peer's. Both end before the lab is taken down. After SIGKILL the guard does that.
 */
import { isatty } from 'node:tty';
import { TwinpathError } from '../errors.ts';
import { isRoot } from '../kernel/identity.ts';
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
    summary: 'runs a handler in a network of its own, with a shell to send it packets from',
    positionals: ['HANDLER'],
    options: {
      option: { value: 'KEY=VALUE', help: 'an option of the handler', repeatable: true },
      exec: { value: 'CMD', help: 'run this command line with sh instead of a shell, and end with it' },
      queues: { value: 'N', help: 'queues and worker threads, 1 to 16', otherwise: '1' },
      host: {
        value: 'MODE',
        help: "the guest's own stack: ingress, inline (what it sends is handled too) or off",
        otherwise: 'ingress',
      },
      vf: { help: 'plug in a VF' },
      'vf-cycle': {
        value: 'N',
        help: 'take the VF away and give it back, each for so many seconds, 1 to 3600',
      },
      arp: { help: 'let the peer ask for MAC addresses by ARP, instead of knowing them' },
    },
    notes: [
      `HANDLER is the path of a JavaScript or WebAssembly module, or a built-in handler: ${BUILT_IN.slice(0, 5).join(', ')},\n` +
        `${BUILT_IN.slice(5).join(', ')}. "twinpath run --help" explains them. A built-in handler that takes an address gets\n` +
        'the address of the guest, unless --option gives one.',
      'The handler serves the network card of a guest, 10.77.0.2. The shell, from SHELL, runs in the network\n' +
        'namespace of its peer, 10.77.0.1. It sees all files and processes of the machine. What the handler\n' +
        'passes goes to the network stack of the guest. The network has no IPv6.',
      'When the shell or the command ends, the network is taken down, and all processes in it are ended.\n' +
        'Without a terminal the shell reads commands from standard input. Its exit code is passed on.',
      'The shell or the command has standard output; statistics and events go to standard error. With\n' +
        '--json the statistics go to standard output as one JSON document, and what the shell or the command\n' +
        'prints goes to standard error. Needs root and iproute2.',
    ],
    examples: [
      ['twinpath try echo', 'a shell, in which to type ping 10.77.0.2'],
      ['twinpath try ./handler.js --vf-cycle 5', 'a handler of your own, through failovers'],
      ["twinpath try ./handler.js --exec 'ping -c 3 10.77.0.2'", 'a check for scripts'],
      ['twinpath try ./handler.js --json < commands.sh', 'commands from a file, the statistics as JSON'],
    ],
    exits: [
      [EXIT.OK, 'the shell or the command ended with 0, and all was well'],
      [EXIT.FAILED, 'could not run, or something went wrong; standard error says what'],
      ...EXITS,
      [137, 'the shell or the command was killed; every other code is its own'],
    ],
  },
  run: runTry,
};

async function runTry(args: Arguments, context: CommandContext): Promise<number> {
  const { terminal, interruption } = context;
  const [name] = args.positionals;
  const handler = handlerUrl(name!);
  const given = pairs(args, 'option');
  checkOptionless(name!, given);
  const wanted = {
    ...{ name: name!, handler, given, arp: args.flags.has('arp'), line: text(args, 'exec') },
    queues: whole(args, 'queues', 1, 16) ?? 1,
    host: oneOf(args, 'host', ['ingress', 'inline', 'off']),
    cycle: whole(args, 'vf-cycle', 1, 3600),
    vf: args.flags.has('vf') || args.texts.has('vf-cycle'),
    json: args.flags.has('json'),
  } as const;
  if (!isRoot()) throw needsRoot();

  const tried = await inLab(wanted, context);
  if (tried === undefined) {
    terminal.log('twinpath: interrupted before the port was open; nothing is left of it');
    if (wanted.json) await terminal.printJson({ ok: false, problems: ['interrupted'] });
    return interruption.exitCode;
  }
  const { report, exitCode } = tried;
  if (wanted.json) await terminal.printJson({ ...report, exitCode });
  else terminal.log(...summary(report).split('\n'));
  for (const problem of new Set(report.problems)) terminal.log(`twinpath: ${problem}`);
  return interruption.exitCode || exitCode || (report.ok ? EXIT.OK : EXIT.FAILED);
}

interface Wanted {
  readonly name: string;
  readonly handler: URL;
  readonly given: Readonly<Record<string, unknown>>;
  readonly arp: boolean;
  /** The command line of --exec. */
  readonly line: string | undefined;
  readonly queues: number;
  readonly host: 'ingress' | 'inline' | 'off' | undefined;
  readonly cycle: number | undefined;
  readonly vf: boolean;
  readonly json: boolean;
}

interface Tried {
  readonly report: PortReport;
  /** Of the shell or the command. */
  readonly exitCode: number;
}

/** Undefined if it was interrupted before the port was open. Nothing is left when it settles. */
async function inLab(wanted: Wanted, context: CommandContext): Promise<Tried | undefined> {
  const { interruption } = context;
  const guard = LabGuard.start();
  try {
    const lab = await Lab.create({ queues: wanted.queues, arp: wanted.arp });
    try {
      const port = await unlessInterrupted(interruption.signal, (signal) =>
        openPort({
          ...{ netns: lab.guest, netvsc: lab.nic.netvsc, force: true, host: wanted.host },
          ...{ queues: wanted.queues, handler: wanted.handler },
          ...{ handlerOptions: withAddress(wanted.name, wanted.given, lab.nic.guestAddress), signal },
        }),
      );
      return port && (await withPeer(port, lab, wanted, context));
    } finally {
      await lab.close();
    }
  } finally {
    guard.release();
  }
}

/** Runs the shell or the command to its end, then closes the port. */
async function withPeer(
  port: Port,
  lab: Lab,
  { name, given, line, vf, cycle, json }: Wanted,
  { terminal, interruption }: CommandContext,
): Promise<Tried> {
  const { nic } = lab;
  const hasTerminal = isatty(STDIN) && isatty(STDERR);
  let exitCode = 0;
  const use = async (addProblem: (problem: string) => void): Promise<void> => {
    if (vf) await plugVf({ port, nic });
    if (line === undefined && hasTerminal) {
      const udpPort = typeof given.port === 'number' ? given.port : name === 'dns' ? 53 : 7;
      const { guestAddress, outsideDevice } = nic;
      terminal.log(
        `${name} is at ${guestAddress}. This shell is at ${nic.outsideAddress}, in a network of its own. Type`,
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

function needsRoot(): TwinpathError {
  return new TwinpathError('ERR_PERMISSION', {
    detail: 'to build network namespaces and to open a port in them takes root',
    hint: 'Try sudo env "PATH=$PATH" twinpath try …; without root "twinpath demo" shows a port in memory.',
  });
}
