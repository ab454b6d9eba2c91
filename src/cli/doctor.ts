/** `twinpath doctor`: what stands in the way of a port on this machine, line by line with the command that mends it. */
import { text } from './arguments.ts';
import { type Command, EXIT, EXITS } from './command.ts';
import { deviceFindings, type Finding, machineFindings } from './doctor/checks.ts';
import { readFacts } from './doctor/facts.ts';

export const doctor: Command = {
  table: {
    name: 'doctor',
    summary: 'says what stands in the way of a port on this machine, and how to mend it',
    positionals: [],
    options: {
      netns: {
        value: 'NAME',
        help: 'look at the devices of this network namespace',
        otherwise: "the process's",
      },
    },
    notes: [
      'It changes nothing but that it makes the folder for control sockets. Run it as the user who opens ports: what this user lacks is a finding.\n' +
        'With --json: an array of { about, state, text, mend }; state is ok, note or problem.',
    ],
    examples: [['twinpath doctor', 'before the first port']],
    exits: [[EXIT.OK, 'no problem found'], [EXIT.FAILED, 'a problem was found'], ...EXITS.slice(0, 1)],
  },
  async run(args, { terminal }) {
    const { machine, devices } = readFacts(text(args, 'netns'));
    const findings = [
      ...machineFindings(machine),
      ...devices.flatMap((one) => deviceFindings(one, machine.queues)),
    ];
    if (devices.length === 0)
      findings.push({
        about: 'machine',
        state: 'note',
        text: 'there is no NetVSC, and no other Ethernet card',
      });
    if (args.flags.has('json')) await terminal.printJson(findings, 2);
    else await terminal.print(report(findings));
    return findings.some(({ state }) => state === 'problem') ? EXIT.FAILED : EXIT.OK;
  },
};

const MARKS = { ok: 'ok     ', note: 'note   ', problem: 'PROBLEM' } as const;

function report(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ about }) => about.length));
  const lines = findings.map(({ about, state, text, mend }) => {
    const line = `${MARKS[state]}  ${about.padEnd(width)}  ${text}`;
    return mend === undefined ? line : `${line}\n${' '.repeat(MARKS.ok.length + width + 4)}→ ${mend}`;
  });
  const problems = findings.filter(({ state }) => state === 'problem').length;
  return [...lines, problems === 0 ? 'No problem found.' : `Problems: ${problems}.`].join('\n');
}
