/** The command line of `npm run perf`. */
import type { CommandTable } from '../src/cli/arguments.ts';

export const table: CommandTable = {
  name: '',
  summary: 'measures Twinpath beside its peers, and says which goals it meets',
  positionals: [],
  options: {
    quick: { help: 'under three minutes: fewer and shorter runs' },
    only: {
      value: 'NAME',
      help: 'this row alone',
      otherwise: 'all but soak and tcp-failover',
      repeatable: true,
    },
    seconds: { value: 'N', help: 'with --only: how long a run measures', otherwise: 'as each row says' },
    again: { value: 'FILE', help: 'measure nothing: judge the samples of a file of perf/results/ once more' },
    publish: {
      help: 'put the table into perf/README.md, draw the plots, and keep the samples in perf/published.json',
    },
  },
  notes: [
    'Sides take turns, A B A B, each in a process of its own. The ratio is the median of the ratios of\n' +
      'neighbouring runs, the spread the width of their middle half. A run that failed, or during which the\n' +
      'hypervisor gave the CPUs to others, is never a number. Peers: perf/peers/install.',
  ],
  examples: [
    ['npm run perf', 'every row, under fifteen minutes'],
    ['npm run perf -- --only ring --only veth', 'two rows'],
    ['npm run perf -- --quick --json', 'a look, as JSON'],
    ['npm run perf -- --again perf/results/FILE', 'what a run came to'],
    ['npm run perf -- --only soak --seconds 7200', 'two hours under load'],
  ],
  exits: [
    [0, 'every row has a result, whether it meets its goal or not'],
    [1, 'a row failed or was noisy'],
    [2, 'the command line is wrong'],
    [130, 'interrupted'],
  ],
};
