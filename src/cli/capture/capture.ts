/** `twinpath capture`: the packets of a running port, as a pcapng file. */
import { compileFilter } from '../../capture/filter/filter.ts';
import { SNAP_LENGTH } from '../../control/protocol.ts';
import { TwinpathError } from '../../errors.ts';
import { normalizeMac } from '../../net/mac.ts';
import { invalid } from '../../validation.ts';
import { type Arguments, text, whole } from '../arguments.ts';
import { type Attached, choose, detach, runningPorts } from '../attached.ts';
import { type Command, type CommandContext, EXIT, EXITS } from '../command.ts';
import { count } from '../port-report.ts';
import { type Captured, capturePackets } from './capturing.ts';
import { type Limits, limitsOf } from './limits.ts';
import { FileOutput, type Output, StandardOutput } from './output.ts';

const STANDARD_OUTPUT = '-';

export const capture: Command = {
  table: {
    name: 'capture',
    summary: 'writes the packets of a running port to a pcapng file, as dumpcap does',
    positionals: [],
    optional: 'PORT',
    optionalRest: 'FILTER',
    options: {
      write: { short: 'w', value: 'FILE', help: 'the file; "-" is standard output' },
      count: { short: 'c', value: 'N', help: 'end after N packets', otherwise: 'Ctrl-C' },
      snaplen: { short: 's', value: 'BYTES', help: 'the most bytes of each packet', otherwise: '262144' },
      ring: {
        short: 'b',
        value: 'LIMIT',
        help: 'go on with another file after duration:SECONDS, filesize:KB or packets:N; keep files:N',
        repeatable: true,
      },
      autostop: {
        short: 'a',
        value: 'LIMIT',
        help: 'end after duration:SECONDS, filesize:KB or packets:N',
        repeatable: true,
      },
    },
    notes: [
      'PORT is the device of a running port, its MAC address, or its process; it may be left out if one runs.\n' +
        'FILTER is a subset of pcap-filter(7): "tcp port 80 or 443", "host 10.0.0.1 and not arp", "ip[8] < 5".',
    ],
    examples: [
      ["twinpath capture -w trace.pcapng 'udp port 53'", 'both directions on every path, until Ctrl-C'],
      ['twinpath capture eth1 -w - | tshark -r -', 'live'],
      ['twinpath capture -w trace.pcapng -b filesize:100000 -b files:10', 'the last gigabyte, in ten files'],
    ],
    exits: [
      [EXIT.OK, 'ended as asked, or the port was closed'],
      [EXIT.FAILED, 'no such port, its process died, or the file could not be written'],
      ...EXITS.slice(0, 1),
    ],
  },
  async run(args, context) {
    const { terminal } = context;
    const wanted = wantedOf(args);
    const ports = await runningPorts(({ message }) => terminal.log(`twinpath: ${message}`));
    try {
      const [port, words] = portAndFilter(ports, args.positionals);
      const filter = words.join(' ');
      compileFilter(filter); // an error of the filter is one before a file is made
      return await run(port, filter, wanted, args, context);
    } finally {
      detach(ports);
    }
  },
};

interface Wanted {
  readonly file: string;
  readonly snapLength: number | undefined;
  readonly ring: Limits | undefined;
  readonly limits: Limits;
}

function wantedOf(args: Arguments): Wanted {
  const file = text(args, 'write');
  if (file === undefined)
    invalid('--write', 'a capture needs a file', 'Write -w FILE, or -w - for standard output.');
  const ring = args.texts.get('ring');
  const limits = limitsOf('--autostop', args.texts.get('autostop') ?? []);
  const packets = whole(args, 'count', 1, Number.MAX_SAFE_INTEGER) ?? limits.packets;
  const snapLength = whole(args, 'snaplen', 0, SNAP_LENGTH);
  if (limits.files !== undefined) invalid('--autostop', 'files:N is of --ring');
  if (file === STANDARD_OUTPUT) {
    if (ring !== undefined) invalid('--ring', 'standard output is one file');
    if (args.flags.has('json')) invalid('--json', 'the packets are on standard output');
    if (process.stdout.isTTY)
      invalid('--write', 'standard output is a terminal, and pcapng is not text', 'Append | tshark -r -.');
  }
  return {
    file,
    snapLength: snapLength === 0 ? undefined : snapLength, // as tcpdump has it
    ring: ring && limitsOf('--ring', ring),
    limits: packets === undefined ? limits : { ...limits, packets },
  };
}

/** The first word is the port if one has that name; else all are the filter, as in tcpdump(8). */
function portAndFilter(
  ports: readonly Attached[],
  words: readonly string[],
): [port: Attached, filter: readonly string[]] {
  const [first, ...rest] = words;
  const mac = first === undefined ? undefined : normalizeMac(first);
  const names = ports.some(
    ({ client, row }) => row.device === first || row.mac === mac || String(client.hello.pid) === first,
  );
  if (names) return [choose(ports, first), rest];
  try {
    compileFilter(words.join(' '));
  } catch (error) {
    // Perhaps it was meant as a port.
    if (
      first !== undefined &&
      /^[\w.:-]+$/.test(first) &&
      !(error instanceof TwinpathError && rest.length > 0)
    )
      choose(ports, first);
    throw error;
  }
  return [choose(ports, undefined), words];
}

async function run(
  { client, row }: Attached,
  filter: string,
  { file, snapLength, ring, limits }: Wanted,
  args: Arguments,
  { terminal, interruption }: CommandContext,
): Promise<number> {
  const { signal } = interruption;
  const output: Output = file === STANDARD_OUTPUT ? new StandardOutput() : new FileOutput(file, signal, ring);
  const captured = await capturePackets({
    ...{ socket: client.file, output, limits, signal },
    wish: { port: row.port, filter, snapLength },
    started: () =>
      terminal.log(`Capturing on ${row.device}${filter === '' ? '' : `, ${filter}`}; Ctrl-C ends it.`),
  });
  const { packets, missed, end } = captured;
  if (args.flags.has('json')) {
    const { device, mac } = row;
    await terminal.printJson(
      { device, mac, pid: client.hello.pid, files: output.files, packets, missed, end },
      2,
    );
  } else if (end !== 'unread') terminal.log(...summary(row.device, captured, output.files));
  return end === 'died' ? EXIT.FAILED : EXIT.OK;
}

function summary(device: string, { packets, missed, end }: Captured, files: readonly string[]): string[] {
  const why = {
    asked: '',
    unread: '',
    closed: `The port on ${device} was closed. `,
    died: `The process of the port on ${device} died, or did not wait for this one. `,
  };
  const lost = missed === 0 ? '' : `; ${count(missed)} more were missed, because this process was too slow`;
  const where = files.length === 0 ? '' : ` in ${files.join(', ')}`;
  return [`${why[end]}${count(packets)} packets${where}${lost}.`];
}
