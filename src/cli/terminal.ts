/**
 * Output of commands: results on standard output, everything else on standard error. A terminal also shows a panel, which is
 * redrawn in place.
 *
 * If the reader of standard output has closed it (EPIPE), the command goes on without printing. Any other error of standard
 * output, such as a full disk, ends the command. Errors of standard error are ignored.
 *
 * Text for people has its control characters escaped (printable.ts). JSON is printed exactly.
 */
import { stripVTControlCharacters, styleText } from 'node:util';
import { TwinpathError } from '../errors.ts';
import { printable, printableLines } from '../printable.ts';

/** The device of ERR_OUTPUT when it is not a file. */
export const STANDARD_OUTPUT = 'standard output';

/** Characters of a line of a result: a list of interfaces may be long. */
const MAX_LINE = 16_000;

type Style = Parameters<typeof styleText>[0];

export class Terminal {
  /** Whether standard error is a terminal. */
  readonly live: boolean = process.stderr.isTTY === true;
  readonly #colours: boolean;
  readonly #write = process.stdout.write.bind(process.stdout);
  #panel: readonly string[] = [];

  constructor() {
    process.stdout.on('error', () => {}); // the callback of `write` gets it too
    process.stderr.on('error', () => {});
    this.#colours = this.live && !process.env.NO_COLOR && process.stderr.hasColors();
  }

  /**
   * Reserves standard output for results: from now on `console.log` of a handler, in any thread, writes to standard error.
   */
  reserveStdout(): void {
    // Always true: on false the streams of worker threads would wait for a 'drain' event, which stderr emits instead.
    process.stdout.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      process.stderr.write(chunk, ...(rest as []));
      return true;
    };
  }

  /** Prints a result for people. @throws ERR_OUTPUT */
  print(text: string): Promise<void> {
    return this.#result(printableLines(text, MAX_LINE));
  }

  /** Prints a result for programs. @throws ERR_OUTPUT */
  printJson(value: unknown, indent?: number): Promise<void> {
    return this.#result(JSON.stringify(value, null, indent));
  }

  async #result(text: string): Promise<void> {
    const error = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) => {
      this.#write(text.endsWith('\n') ? text : `${text}\n`, (failure) => resolve(failure));
    });
    if (!error || error.code === 'EPIPE') return;
    throw new TwinpathError('ERR_OUTPUT', { device: STANDARD_OUTPUT, detail: error.message });
  }

  /** Prints lines on standard error, above the panel. */
  log(...lines: readonly string[]): void {
    this.#erase();
    for (const line of lines) process.stderr.write(`${printable(line)}\n`);
    this.#draw();
  }

  /** Replaces the panel. Does nothing if standard error is not a terminal. */
  panel(lines: readonly string[]): void {
    if (!this.live) return;
    this.#erase();
    const width = process.stderr.columns || 80;
    // A wrapped line would take two rows, and #erase would erase one too few.
    this.#panel = lines.map((line) => {
      const bare = stripVTControlCharacters(line);
      return bare.length < width ? line : printable(bare.slice(0, width - 1));
    });
    this.#draw();
  }

  /** Styles text for a panel; `log` and `print` would escape the codes. */
  style(style: Style, text: string): string {
    const fit = printable(text);
    return this.#colours ? styleText(style, fit) : fit;
  }

  #erase(): void {
    if (this.#panel.length > 0) process.stderr.write(`\x1b[${this.#panel.length}F\x1b[J`);
  }

  #draw(): void {
    if (this.#panel.length > 0) process.stderr.write(`${this.#panel.join('\n')}\n`);
  }
}
