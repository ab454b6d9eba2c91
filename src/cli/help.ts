/** The text of `--help`, from a command's table. */
import { argumentNames, COMMON, type CommandTable, type OptionRow, typed } from './arguments.ts';

export function commandHelp(table: CommandTable): string {
  const { summary, options, notes, examples, exits } = table;
  const rows = { ...options, ...COMMON };
  const sections = [
    `Usage: ${[typed(table), ...argumentNames(table), '[options]'].join(' ')}\n\n${capital(summary)}.`,
    `Options:\n${columns(Object.entries(rows).map(optionLine))}`,
    ...notes,
    `Examples:\n${columns(examples)}`,
    `Exit codes:\n${columns(exits.map(([code, meaning]) => [String(code), meaning] as const))}`,
  ];
  return `${sections.join('\n\n')}\n`;
}

export function generalHelp(tables: readonly CommandTable[]): string {
  const lines = tables.map(
    (table) => [[table.name, ...argumentNames(table)].join(' '), table.summary] as const,
  );
  return [
    'Usage: twinpath COMMAND [options]',
    'One Ethernet port over two paths: NetVSC and its SR-IOV VF.',
    `Commands:\n${columns(lines)}`,
    `Options:\n${columns([
      ['--help', 'print this text; after a command, the help of that command'],
      ['--version', 'print the version'],
    ])}\n`,
  ].join('\n\n');
}

function optionLine([name, { value, short, help, otherwise, repeatable }]: [string, OptionRow]): readonly [
  string,
  string,
] {
  const notes = [repeatable ? 'may be repeated' : '', otherwise === undefined ? '' : `default: ${otherwise}`];
  const suffix = notes.filter((note) => note !== '').join('; ');
  const letter = short === undefined ? '' : `-${short}, `;
  return [
    `${letter}--${name}${value === undefined ? '' : ` ${value}`}`,
    suffix === '' ? help : `${help} (${suffix})`,
  ];
}

/** Rows of two columns, indented. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n');
}

function capital(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}
