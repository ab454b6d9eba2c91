/** `twinpath stats`: the counters of a running port, once or periodically. */
import type { StatisticsSample } from '../control/protocol.ts';
import { rateLine, ratesBetween } from '../control/rates.ts';
import type { DeviceStatistics, ExtendedStatistics } from '../extended-statistics.ts';
import { type Arguments, whole } from './arguments.ts';
import { type Attached, attachedTo } from './attached.ts';
import { type Command, type CommandContext, EXIT, EXITS } from './command.ts';
import { count, statisticsLines } from './port-report.ts';

export const stats: Command = {
  table: {
    name: 'stats',
    summary: 'prints the counters of a running port, or its rates periodically',
    positionals: [],
    optional: 'PORT',
    options: {
      watch: {
        value: 'N',
        help: 'print rates every N seconds, 1 to 3600, until Ctrl-C',
        otherwise: 'print totals once',
      },
      extended: { help: "the kernel's and the drivers' own counters too, those that are not 0" },
    },
    notes: [
      'PORT is the device of a running port, its MAC address, or its process; it may be left out if one runs.\n' +
        'With --json: one document; with --watch one a line.',
    ],
    examples: [
      ['twinpath stats', 'what the port has counted since it was opened'],
      ['twinpath stats eth1 --watch 1', 'packets a second, every second'],
    ],
    exits: [[EXIT.OK, 'printed'], [EXIT.FAILED, 'no such port, or it has ended'], ...EXITS.slice(0, 1)],
  },
  run: (args, context) =>
    attachedTo(args.positionals[0], context.terminal, (attached) => {
      const every = whole(args, 'watch', 1, 3600);
      return every === undefined ? once(attached, args, context) : watch(attached, every, args, context);
    }),
};

async function once(
  { client, row }: Attached,
  args: Arguments,
  { terminal }: CommandContext,
): Promise<number> {
  const { nanos, ports } = (await client.request({ request: 'stats' })) as StatisticsSample;
  const statistics = ports[row.port]!;
  const extended = args.flags.has('extended')
    ? ((await client.request({ request: 'extended', port: row.port })) as ExtendedStatistics)
    : undefined;
  if (args.flags.has('json')) {
    const { device, mac } = row;
    await terminal.printJson({ device, mac, pid: client.hello.pid, nanos, statistics, extended }, 2);
  } else {
    await terminal.print([...statisticsLines(statistics), ...extendedLines(extended)].join('\n'));
  }
  return EXIT.OK;
}

function extendedLines(extended: ExtendedStatistics | undefined): string[] {
  return Object.entries(extended ?? {}).flatMap(([path, sources]: [string, DeviceStatistics]) =>
    (['link', 'driver'] as const).flatMap((source) =>
      Object.entries(sources[source])
        .filter(([, value]) => value > 0)
        .map(([name, value]) => `  ${path} ${source} ${name} ${count(value)}`),
    ),
  );
}

async function watch(
  { client, row }: Attached,
  every: number,
  args: Arguments,
  { terminal, interruption }: CommandContext,
): Promise<number> {
  let before: StatisticsSample | undefined;
  interruption.signal.addEventListener('abort', () => client.close(), { once: true });
  await client.watch(every * 1000, (now) => {
    if (before !== undefined) {
      const rates = ratesBetween(before, now, row.port);
      void (
        args.flags.has('json')
          ? terminal.printJson({ nanos: now.nanos, device: row.device, ...rates })
          : terminal.print(rateLine(rates))
      ).catch(() => client.close());
    }
    before = now;
  });
  await client.ended;
  if (interruption.signal.aborted) return EXIT.OK;
  terminal.log(`twinpath: the port on ${row.device} has ended`);
  return EXIT.FAILED;
}
