/** `twinpath set`: changes the configuration of a running port, on both paths, or the options of its handler. */
import type { PortConfiguration } from '../configuration.ts';
import { invalid } from '../validation.ts';
import { pairsOf } from './arguments.ts';
import { attachedTo } from './attached.ts';
import { type Command, EXIT, EXITS } from './command.ts';

export const set: Command = {
  table: {
    name: 'set',
    summary: 'changes a running port: MTU, addresses, rules, queues, options of its handler …',
    positionals: ['PORT'],
    rest: 'KEY=VALUE',
    options: {},
    notes: [
      'PORT is the device of a running port, its MAC address, or its process. KEY is a property of the configuration\n' +
        '(docs/api.md): mtu, mac, unicast, multicast, promiscuous, allMulticast, macFilter, rules, isolate, rss, queues,\n' +
        'mode, started. A VALUE that is JSON is parsed, every other is text; null is the default. What is not named stays.',
      'handler.KEY is an option of the handler, with null for its default. All workers take it, or none does. Options of the\n' +
        'handler and of the port change in commands of their own.',
      'If a device refuses, both paths are as before, and the reason is printed; so with a handler.',
    ],
    examples: [
      ['twinpath set eth1 mtu=1400 promiscuous=true', 'on both paths, also of a VF that returns'],
      ['twinpath set eth1 \'rules=["udp dst port 53 to handler"]\' isolate=true', 'exchange the flow rules'],
      ['twinpath set eth1 queues=[0,1] mode=poll', 'two queues, whose workers do not sleep'],
      ['twinpath set eth1 mtu=null', 'as the devices have it'],
      ['twinpath set eth1 handler.backends=10.0.0.5,10.0.0.6', "other backends for the handler 'balance'"],
    ],
    exits: [
      [EXIT.OK, 'both paths, or all workers of the handler, have it'],
      [EXIT.FAILED, 'no such port, or a device or the handler refuses'],
      ...EXITS.slice(0, 1),
    ],
  },
  run: (args, { terminal }) => {
    const [name, ...rest] = args.positionals;
    const { change, handler } = changesOf(pairsOf(rest, 'KEY=VALUE', (key) => `'${key}=["A","B"]'`));
    return attachedTo(name, terminal, async ({ client, row }) => {
      if (handler !== undefined) {
        await client.request({ request: 'configureHandler', port: row.port, change: handler });
        if (args.flags.has('json')) await terminal.printJson({ device: row.device, handler }, 2);
        else await terminal.print(lines(handler, 'handler.'));
        return EXIT.OK;
      }
      const configuration = (await client.request({
        request: 'configure',
        port: row.port,
        change,
      })) as PortConfiguration;
      if (args.flags.has('json')) await terminal.printJson({ device: row.device, configuration }, 2);
      else await terminal.print(lines(configuration));
      return EXIT.OK;
    });
  },
};

const PREFIX = 'handler.';

/** What is to change: of the port, or of its handler's options. @throws ERR_OPTION_INVALID for both */
function changesOf(pairs: Record<string, unknown>): {
  readonly change: Record<string, unknown>;
  readonly handler: Record<string, unknown> | undefined;
} {
  const own = Object.entries(pairs).filter(([key]) => key.startsWith(PREFIX));
  if (own.length === 0) return { change: pairs, handler: undefined };
  const [other] = Object.keys(pairs).filter((key) => !key.startsWith(PREFIX));
  const detail =
    'it is not changed together with options of the handler: one may be refused, and the other not';
  if (other !== undefined) invalid(other, detail, 'Give two commands.');
  return {
    change: {},
    handler: Object.fromEntries(own.map(([key, value]) => [key.slice(PREFIX.length), value])),
  };
}

const lines = (values: object, prefix = ''): string =>
  Object.entries(values)
    .map(([key, value]) => `${prefix}${key} ${JSON.stringify(value)}`)
    .join('\n');
