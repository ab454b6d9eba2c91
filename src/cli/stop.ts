/** `twinpath stop`: closes a running port, in order. */
import { attachedTo } from './attached.ts';
import { type Command, EXIT, EXITS } from './command.ts';

export const stop: Command = {
  table: {
    name: 'stop',
    summary: 'closes a running port: its packets are handled, and the kernel has its devices back',
    positionals: [],
    optional: 'PORT',
    options: {},
    notes: [
      'PORT is the device of a running port, its MAC address, or its process; it may be left out if one runs.\n' +
        'Ports that were opened together close together. The process goes on; twinpath run ends then.',
    ],
    examples: [['twinpath stop eth1', 'close the port on eth1']],
    exits: [[EXIT.OK, 'the port is closed'], [EXIT.FAILED, 'no such port'], ...EXITS.slice(0, 1)],
  },
  run: (args, { terminal }) =>
    attachedTo(args.positionals[0], terminal, async ({ client, row }) => {
      await client.request({ request: 'stop' });
      await client.ended; // when everything is released
      const stopped = { device: row.device, pid: client.hello.pid };
      if (args.flags.has('json')) await terminal.printJson(stopped);
      else await terminal.print(`The port on ${row.device} is closed.`);
      return EXIT.OK;
    }),
};
