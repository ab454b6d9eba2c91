/** `twinpath top`: a running port's rates, drops and failovers, drawn again every second. */
import type { PortRow, StatisticsSample } from '../control/protocol.ts';
import { ratesBetween } from '../control/rates.ts';
import type { Failover } from '../memory/journal.ts';
import { type Arguments, whole } from './arguments.ts';
import { type Attached, attachedTo } from './attached.ts';
import { type Command, type CommandContext, EXIT, EXITS } from './command.ts';
import { mergeFailovers } from './failovers.ts';
import { topScreen } from './top-screen.ts';

const DEFAULT_ROWS = 24;

export const top: Command = {
  table: {
    name: 'top',
    summary: 'shows what a running port does: rates, queues, drops, failovers',
    positionals: [],
    optional: 'PORT',
    options: {
      every: { value: 'N', help: 'seconds between two pictures, 1 to 3600', otherwise: '1' },
      count: { value: 'N', help: 'end after so many pictures', otherwise: 'never' },
    },
    notes: [
      'PORT is the device of a running port, its MAC address, or its process; it may be left out if one runs.',
      'ns/packet is CPU time of the worker; idle is the share of the time in which it used none. What top shows is\n' +
        "read from counters by a thread of its own in the port's process: it costs the workers nothing.",
      'On a terminal the picture is redrawn in place; elsewhere, pictures follow each other. With --json: a line for each.',
    ],
    examples: [
      ['twinpath top', 'the only port that runs'],
      ['twinpath top eth1 --every 5', 'that port, every five seconds'],
    ],
    exits: [
      [EXIT.OK, 'ended by Ctrl-C or --count'],
      [EXIT.FAILED, 'no such port, or it has ended'],
      ...EXITS.slice(0, 1),
    ],
  },
  run: (args, context) =>
    attachedTo(args.positionals[0], context.terminal, (attached) => show(attached, args, context)),
};

async function show(
  { client, row }: Attached,
  args: Arguments,
  { terminal, interruption }: CommandContext,
): Promise<number> {
  const every = whole(args, 'every', 1, 3600) ?? 1;
  const pictures = whole(args, 'count', 1, 1_000_000) ?? Number.POSITIVE_INFINITY;
  const json = args.flags.has('json');
  let before: StatisticsSample | undefined;
  let drawn = 0;
  let journal: Failover[] = [];
  let rows: PortRow = row;
  let finish: (ended: boolean) => void = () => {};
  const finished = new Promise<boolean>((resolve) => {
    finish = resolve;
  });
  const draw = async (now: StatisticsSample): Promise<void> => {
    const last = before;
    before = now;
    if (last === undefined) return;
    const since = (journal.at(-1)?.sequence ?? -1) + 1;
    const [news, described] = (await Promise.all([
      client.request({ request: 'failovers', since }),
      client.request({ request: 'ports' }),
    ])) as [Failover[], PortRow[]];
    journal = [...journal, ...news].slice(-256);
    rows = described[row.port]!;
    const rates = ratesBetween(last, now, row.port);
    const failovers = mergeFailovers(journal.filter(({ port }) => port === row.port)).map((entry) => ({
      entry,
      ago: (now.nanos - entry.detectedNanos) / 1e9,
    }));
    const missed = now.missed ?? 0;
    if (json)
      await terminal.printJson({
        nanos: now.nanos,
        device: row.device,
        ...rates,
        failovers: news.filter(({ port }) => port === row.port),
        missed,
      });
    else {
      const view = { pid: client.hello.pid, row: rows, every, rates, failovers, missed };
      const lines = topScreen(view, process.stderr.rows || DEFAULT_ROWS);
      if (terminal.live) terminal.panel(lines);
      else await terminal.print(lines.join('\n'));
    }
    if (++drawn >= pictures) finish(false);
  };
  interruption.signal.addEventListener('abort', () => finish(false), { once: true });
  void client.ended.then(() => finish(true));
  await client.watch(every * 1000, (sample) => void draw(sample).catch(() => finish(true)));
  const ended = await finished;
  if (ended && !interruption.signal.aborted) terminal.log(`twinpath: the port on ${row.device} has ended`);
  return ended && !interruption.signal.aborted ? EXIT.FAILED : EXIT.OK;
}
