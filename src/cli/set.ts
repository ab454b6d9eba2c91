/** `twinpath set`: changes the configuration of a running port, on both paths. */
import type { PortConfiguration } from '../configuration.ts';
import { pairsOf } from './arguments.ts';
import { attachedTo } from './attached.ts';
import { type Command, EXIT, EXITS } from './command.ts';

export const set: Command = {
  table: {
    name: 'set',
    summary: 'changes the configuration of a running port: MTU, addresses, rules, queues …',
    positionals: ['PORT'],
    rest: 'KEY=VALUE',
    options: {},
    notes: [
      'PORT is the device of a running port, its MAC address, or its process. KEY is a property of the configuration\n' +
        '(docs/api.md): mtu, mac, unicast, multicast, promiscuous, allMulticast, macFilter, rules, isolate, rss, queues,\n' +
        'mode, started. A VALUE that is JSON is parsed, every other is text; null is the default. What is not named stays.',
      'If a device refuses, both paths are as before, and the reason is printed.',
    ],
    examples: [
      ['twinpath set eth1 mtu=1400 promiscuous=true', 'on both paths, also of a VF that returns'],
      ['twinpath set eth1 \'rules=["udp dst port 53 to handler"]\' isolate=true', 'exchange the flow rules'],
      ['twinpath set eth1 queues=[0,1] mode=poll', 'two queues, whose workers do not sleep'],
      ['twinpath set eth1 mtu=null', 'as the devices have it'],
    ],
    exits: [
      [EXIT.OK, 'both paths have it'],
      [EXIT.FAILED, 'no such port, or a device refuses'],
      ...EXITS.slice(0, 1),
    ],
  },
  run: (args, { terminal }) => {
    const [name, ...rest] = args.positionals;
    const change = pairsOf(rest, 'KEY=VALUE', (key) => `'${key}=["A","B"]'`);
    return attachedTo(name, terminal, async ({ client, row }) => {
      const configuration = (await client.request({
        request: 'configure',
        port: row.port,
        change,
      })) as PortConfiguration;
      if (args.flags.has('json')) await terminal.printJson({ device: row.device, configuration }, 2);
      else {
        const lines = Object.entries(configuration).map(([key, value]) => `${key} ${JSON.stringify(value)}`);
        await terminal.print(lines.join('\n'));
      }
      return EXIT.OK;
    });
  },
};
