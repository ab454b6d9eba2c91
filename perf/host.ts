/**
 * What the machine's own TCP gets through a port: `node dist/perf/host.js --help`.
 *
 * The port runs in a process of its own (host-port.ts), a stream of iperf3 in two more. Each run with a port
 * follows one without, by the NetVSC stand-in alone: the ratio is of neighbours in time, the figures are those
 * of the machine it runs on.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Lab } from '../src/lab/host.ts';
import { type Stream, stream } from './iperf.ts';
import { machine } from './measure.ts';
import { median } from './statistics.ts';

const HELP = `What the machine's own TCP gets through a port, beside what it gets without one.

    node dist/perf/host.js [--seconds 20] [--rounds 3] [--quick] [--queues 2]
                           [--stand-in veth|bridge] [--json]

  --seconds N       how long a stream with failovers, or with a kill, takes; others take a quarter of it
  --rounds N        runs of each case; the median is printed
  --quick           4 seconds, 1 round
  --queues N        queues and worker threads of the port
  --stand-in KIND   what plays NetVSC
  --json            one JSON document on standard output

Needs root, and iperf3 (perf/peers/install installs it). For each host mode, path and direction: Gbit/s, the
ratio to the run without a port just before, retransmissions, and the longest time without a segment. Then the
same with the VF plugged and unplugged five times, the third time by surprise, and with the port's process killed
in the middle.
`;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    rounds: { type: 'string', default: '3' },
    quick: { type: 'boolean', default: false },
    queues: { type: 'string', default: '2' },
    'stand-in': { type: 'string', default: 'veth' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
if (spawnSync('iperf3', ['--version']).error !== undefined) {
  process.stderr.write(
    'iperf3 is not installed. Run perf/peers/install as root, or install the package iperf3.\n',
  );
  process.exit(1);
}

const seconds = values.quick ? 4 : Number(values.seconds);
const rounds = values.quick ? 1 : Number(values.rounds);
const CYCLES = 5;
const SURPRISE = 2;
/** Of a stream that is killed: what is left out around the kill, for the rates before and after it. */
const KILL_TENTHS = 5;

const MODES = ['ingress', 'inline'] as const;
const PATHS = ['vf', 'synthetic'] as const;
const DIRECTIONS = ['in', 'out'] as const;
type Mode = (typeof MODES)[number];
type PathName = (typeof PATHS)[number];
type Direction = (typeof DIRECTIONS)[number];

/** The port's process. */
class Holder {
  readonly child: ChildProcess;
  #said = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    child.on('message', (text: string) => {
      this.#said = text;
    });
  }

  static async open(lab: Lab, mode: Mode): Promise<Holder> {
    const file = fileURLToPath(new URL('host-port.js', import.meta.url));
    const holder = new Holder(fork(file, [lab.guest, lab.nic.netvsc, mode, values.queues]));
    await holder.says('synthetic');
    return holder;
  }

  async says(text: string): Promise<void> {
    for (let tries = 0; this.#said !== text; tries++) {
      if (tries > 2000 || this.child.exitCode !== null) throw new Error(`the port never said "${text}"`);
      await sleep(5);
    }
  }

  async close(): Promise<void> {
    const gone = once(this.child, 'exit');
    this.child.disconnect();
    await gone;
  }
}

async function plug(lab: Lab, port: Holder): Promise<void> {
  await lab.nic.plug();
  await port.says('vf');
  await lab.nic.moveDataPath('vf');
}

/** A stream in a lab of its own. `meanwhile` runs while it flows. */
async function run(
  direction: Direction,
  length: number,
  mode?: Mode,
  path?: PathName,
  meanwhile?: (lab: Lab, port: Holder) => Promise<void>,
): Promise<Stream> {
  await using lab = await Lab.create({
    queues: Number(values.queues),
    standIn: values['stand-in'] as 'veth',
  });
  const port = mode === undefined ? undefined : await Holder.open(lab, mode);
  try {
    if (path === 'vf') await plug(lab, port!);
    const { guest, outside, nic } = lab;
    let doing: Promise<void> | undefined;
    const result = await stream({
      ...(direction === 'in' ? { from: outside, to: guest } : { from: guest, to: outside }),
      address: direction === 'in' ? nic.guestAddress : nic.outsideAddress,
      seconds: length,
      flowing: () => {
        doing = meanwhile?.(lab, port!);
        doing?.catch(() => {}); // it is awaited below, when the stream is over
      },
    });
    await doing;
    return result;
  } finally {
    if (port?.child.connected) await port.close();
  }
}

/** Away from the VF and back, five times in the time of the stream, evenly. */
async function failovers(lab: Lab, port: Holder): Promise<void> {
  const { nic } = lab;
  const began = performance.now();
  const step = (seconds * 1000) / (2 * CYCLES + 1);
  const reach = (steps: number): Promise<void> =>
    sleep(Math.max(0, began + steps * step - performance.now()));
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    await reach(2 * cycle + 0.5);
    await plug(lab, port);
    await reach(2 * cycle + 1.5);
    if (cycle === SURPRISE) {
      nic.surprise();
      await sleep(20);
      await nic.hostNotices();
    } else await nic.unplug();
    await port.says('synthetic');
  }
}

async function kill(_: Lab, { child }: Holder): Promise<void> {
  await sleep(seconds * 500);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

const MEANWHILE = { steady: undefined, failovers, kill };

const mean = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

interface Figures {
  readonly mode: Mode | 'no port';
  readonly path: PathName | 'both';
  readonly direction: Direction;
  readonly what: 'steady' | 'failovers' | 'kill';
  readonly gigabits: number;
  /** Of the run without a port just before. */
  readonly ofPlain: number;
  readonly retransmissions: number;
  readonly stallMillis: number;
  /** Kill only: Gbit/s by then, and from then on. */
  readonly before?: number;
  readonly after?: number;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The case of a port and its neighbour without one, as often as there are rounds: A B A B. */
async function compare(
  key: Pick<Figures, 'mode' | 'path' | 'direction' | 'what'>,
  plain: Map<Direction, Stream[]>,
): Promise<Figures> {
  const { mode, path, direction, what } = key;
  const length = what === 'steady' ? seconds / 4 : seconds;
  const streams: Stream[] = [];
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const peer = await run(direction, seconds / 4);
    plain.get(direction)!.push(peer);
    const start = path === 'both' ? 'synthetic' : path;
    const one = await run(direction, length, mode as Mode, start, MEANWHILE[what]);
    streams.push(one);
    ratios.push(one.gigabits / peer.gigabits);
  }
  const half = (seconds * 10) / 2;
  const around =
    what !== 'kill'
      ? {}
      : {
          before: median(streams.map(({ tenths }) => mean(tenths.slice(0, half - KILL_TENTHS)))),
          after: median(streams.map(({ tenths }) => mean(tenths.slice(half + KILL_TENTHS)))),
        };
  say(`${what}, ${mode}, ${path}, ${direction}`);
  return { ...key, ...medians(streams), ofPlain: median(ratios), ...around };
}

function medians(streams: readonly Stream[]): Pick<Figures, 'gigabits' | 'retransmissions' | 'stallMillis'> {
  return {
    gigabits: median(streams.map(({ gigabits }) => gigabits)),
    retransmissions: median(streams.map(({ retransmissions }) => retransmissions)),
    stallMillis: median(streams.map(({ stallMillis }) => stallMillis)),
  };
}

const gigabits = (value: number): string => value.toFixed(2).padStart(8);
const whole = (value: number): string => value.toFixed(0).padStart(8);

/** One line a mode and path, both directions beside each other. */
function table(title: string, figures: readonly Figures[]): string {
  const killed = figures.some(({ before }) => before !== undefined);
  const columns = `${'Gbit/s'.padStart(8)}${killed ? '  before   after' : ''}   ratio    retr   stall`;
  const head = `${title}\n${''.padEnd(20)}${'in'.padStart(8)}${''.padEnd(columns.length - 8)}${'out'.padStart(8)}`;
  const lines = [head, `${''.padEnd(20)}${columns}${columns}`];
  for (const { mode, path } of figures.filter(({ direction }) => direction === 'in')) {
    const both = DIRECTIONS.map(
      (direction) =>
        figures.find((one) => one.mode === mode && one.path === path && one.direction === direction)!,
    );
    const cells = both.map(
      ({ before, after, ...one }) =>
        gigabits(one.gigabits) +
        (before === undefined ? '' : gigabits(before) + gigabits(after!)) +
        gigabits(one.ofPlain) +
        whole(one.retransmissions) +
        whole(one.stallMillis),
    );
    lines.push(`${mode.padEnd(9)}${path.padEnd(11)}${cells.join('')}`);
  }
  return `${lines.join('\n')}\n`;
}

const plain = new Map<Direction, Stream[]>(DIRECTIONS.map((direction) => [direction, []]));
const figures: Figures[] = [];
for (const what of ['steady', 'failovers', 'kill'] as const) {
  const paths = { steady: PATHS, failovers: ['both'], kill: ['vf'] } as const;
  for (const direction of DIRECTIONS) {
    for (const mode of MODES) {
      for (const path of paths[what]) figures.push(await compare({ mode, path, direction, what }, plain));
    }
  }
}
const without = DIRECTIONS.map((direction): Figures => {
  const key = { mode: 'no port', path: 'synthetic', direction, what: 'steady' } as const;
  return { ...key, ...medians(plain.get(direction)!), ofPlain: 1 };
});
const of = (what: Figures['what']): Figures[] => figures.filter((one) => one.what === what);
if (values.json) {
  const settings = { seconds, rounds, queues: Number(values.queues), standIn: values['stand-in'] };
  process.stdout.write(
    `${JSON.stringify({ machine: machine(), ...settings, figures: [...without, ...figures] })}\n`,
  );
} else {
  process.stdout.write(
    [
      `${machine()}\n${values.queues} queues, ${values['stand-in']} as NetVSC, medians of ${rounds}; stalls in ms\n`,
      table(`Steady, ${seconds / 4} s`, [...without, ...of('steady')]),
      table(
        `The VF plugged and unplugged ${CYCLES} times, once by surprise, in ${seconds} s`,
        of('failovers'),
      ),
      table(`The port's process killed after ${seconds / 2} of ${seconds} s`, of('kill')),
    ].join('\n'),
  );
}
