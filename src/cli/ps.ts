/** `twinpath ps`: the running ports of this user. */
import { basename } from 'node:path';
import { detach, runningPorts } from './attached.ts';
import { type Command, EXIT, EXITS } from './command.ts';

export const ps: Command = {
  table: {
    name: 'ps',
    summary: 'lists the running ports: process, device, paths, handler',
    positionals: [],
    options: {},
    notes: [
      'Lists the ports of this user, for root those of all users, that have a control socket. With --json: an array of them.',
    ],
    examples: [['twinpath ps', 'which ports run here']],
    exits: [[EXIT.OK, 'listed, even if none runs'], ...EXITS.slice(0, 1)],
  },
  async run(args, { terminal }) {
    const ports = await runningPorts(({ message }) => terminal.log(`twinpath: ${message}`));
    try {
      const rows = ports.map(({ client, row }) => ({ pid: client.hello.pid, socket: client.file, ...row }));
      if (args.flags.has('json')) await terminal.printJson(rows, 2);
      else await terminal.print(rows.length === 0 ? 'No port runs here.' : table(rows));
      return EXIT.OK;
    } finally {
      detach(ports);
    }
  },
};

type Row = Awaited<ReturnType<typeof runningPorts>>[number]['row'] & { readonly pid: number };

function table(rows: readonly Row[]): string {
  const cells = rows.map(({ pid, device, mac, link, paths, queues, handler, netns }) => [
    String(pid),
    device,
    mac,
    link.up ? 'up' : 'down',
    paths.vf?.device ?? '-',
    String(queues),
    basename(handler),
    netns ?? '-',
  ]);
  const all = [['PID', 'DEVICE', 'MAC', 'LINK', 'VF', 'QUEUES', 'HANDLER', 'NAMESPACE'], ...cells];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
