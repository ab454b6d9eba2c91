/**
 * `twinpath extcap`: running ports among Wireshark's interfaces. Wireshark runs each program of its extcap folder with the options
 * below (extcap(4) of Wireshark, doc/extcap.adoc).
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { compileFilter } from '../../capture/filter/filter.ts';
import { SNAP_LENGTH } from '../../control/protocol.ts';
import { TwinpathError } from '../../errors.ts';
import { packageVersion } from '../../package-version.ts';
import { invalid } from '../../validation.ts';
import { type Arguments, text, whole } from '../arguments.ts';
import { type Attached, detach, runningPorts } from '../attached.ts';
import { type Command, type CommandContext, EXIT, EXITS } from '../command.ts';
import { capturePackets } from './capturing.ts';
import { FileOutput } from './output.ts';

/** How often, and how long apart in ms, it looks for a reader of the pipe. */
const HANG_UP_ATTEMPTS = 40;
const HANG_UP_PAUSE = 50;

export const extcap: Command = {
  table: {
    name: 'extcap',
    summary: 'shows the running ports to Wireshark, which calls it',
    positionals: [],
    options: {
      'extcap-interfaces': { help: 'print the running ports' },
      'extcap-version': { value: 'VERSION', help: 'of Wireshark' },
      'extcap-interface': { value: 'NAME', help: 'one of them' },
      'extcap-dlts': { help: 'print its link types' },
      'extcap-config': { help: 'print what can be set' },
      'extcap-capture-filter': {
        value: 'FILTER',
        help: 'as of twinpath capture; without --capture it is only checked',
      },
      'extcap-reload-option': { value: 'OPTION', help: 'nothing is read again' },
      capture: { help: 'write its packets' },
      fifo: { value: 'FILE', help: 'the pipe they are written to' },
      snaplen: { value: 'BYTES', help: 'the most bytes of each packet', otherwise: String(SNAP_LENGTH) },
    },
    notes: ["docs/capture.md has the line that makes it one of Wireshark's interfaces."],
    examples: [['twinpath extcap --extcap-interfaces', 'what Wireshark gets to see']],
    exits: [
      [EXIT.OK, 'printed, or the capture has ended'],
      [EXIT.FAILED, 'no such port, or the pipe could not be written'],
      ...EXITS.slice(0, 1),
    ],
  },
  async run(args, context) {
    const ports = await runningPorts(() => {});
    try {
      return await run(args, ports, context);
    } finally {
      detach(ports);
    }
  },
};

async function run(args: Arguments, ports: readonly Attached[], context: CommandContext): Promise<number> {
  const { terminal } = context;
  const { flags } = args;
  const print = async (...lines: string[]): Promise<number> => {
    if (lines.length > 0) await terminal.print(lines.join('\n'));
    return EXIT.OK;
  };
  if (flags.has('extcap-interfaces')) {
    const help = 'https://www.npmjs.com/package/twinpath';
    return await print(
      `extcap {version=${packageVersion()}}{help=${help}}{display=Twinpath}`,
      ...ports.map((port) => `interface {value=${nameOf(port)}}{display=${displayOf(port)}}`),
    );
  }
  const name = text(args, 'extcap-interface');
  if (name === undefined)
    invalid('--extcap-interface', 'it needs one', 'Wireshark gives it: --extcap-interfaces lists them.');
  const filter = text(args, 'extcap-capture-filter') ?? '';
  if (flags.has('extcap-dlts')) return await print('dlt {number=1}{name=EN10MB}{display=Ethernet}');
  if (flags.has('extcap-config')) {
    const range = `{type=unsigned}{range=1,${SNAP_LENGTH}}{default=${SNAP_LENGTH}}`;
    return await print(`arg {number=0}{call=--snaplen}{display=Bytes of each packet}${range}`);
  }
  if (flags.has('capture')) {
    const fifo = text(args, 'fifo') ?? invalid('--fifo', 'it needs a file');
    try {
      return await copy(args, find(ports, name), filter, fifo, context);
    } catch (error) {
      await hangUp(fifo);
      throw error;
    }
  }
  // Wireshark shows what is printed as the reason why a filter is refused.
  const refusal = refusalOf(filter);
  return refusal === undefined ? EXIT.OK : await print(refusal);
}

function refusalOf(filter: string): string | undefined {
  try {
    compileFilter(filter);
    return undefined;
  } catch (error) {
    if (error instanceof TwinpathError) return error.message;
    throw error;
  }
}

async function copy(
  args: Arguments,
  { client, row }: Attached,
  filter: string,
  fifo: string,
  { interruption }: CommandContext,
): Promise<number> {
  const { end } = await capturePackets({
    socket: client.file,
    wish: { port: row.port, filter, snapLength: whole(args, 'snaplen', 1, SNAP_LENGTH) },
    output: new FileOutput(fifo, interruption.signal),
    limits: {},
    signal: interruption.signal,
    started: () => {},
  });
  return end === 'died' ? EXIT.FAILED : EXIT.OK;
}

/** The reader opens the pipe and waits, and would wait for ever. */
async function hangUp(fifo: string): Promise<void> {
  for (let attempt = 0; attempt < HANG_UP_ATTEMPTS; attempt++) {
    try {
      // Without O_NONBLOCK this waits for a reader that may have gone; with it the kernel says whether there is one.
      const pipe = await open(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
      await pipe.close();
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') return;
      await sleep(HANG_UP_PAUSE);
    }
  }
}

/** By the MAC address: devices in several namespaces may have one name, and Wireshark keeps settings by this one. */
const nameOf = ({ row }: Attached): string => `twinpath-${row.mac.replaceAll(':', '')}`;
const displayOf = ({ client, row }: Attached): string =>
  `Twinpath port ${row.device.replace(/[{}]/g, '')}, process ${client.hello.pid}`;

/** @throws ERR_NO_PORT */
function find(ports: readonly Attached[], name: string): Attached {
  const found = ports.find((port) => nameOf(port) === name);
  if (found !== undefined) return found;
  const detail =
    ports.length === 0 ? 'no port of this user runs' : `there are ${ports.map(nameOf).join(', ')}`;
  throw new TwinpathError('ERR_NO_PORT', { device: name, detail });
}
