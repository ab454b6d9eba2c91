/**
 * Where words go: results on standard output, everything else on standard error, where a terminal also
 * gets a panel that is drawn in place.
 *
 * A reader who has seen enough (EPIPE) ends no command: what is left to print is not printed. A full disk
 * does end it. What standard error cannot take is dropped.
 *
 * What people read goes through printable.ts; JSON is what it is.
 */
import { stripVTControlCharacters, styleText } from 'node:util';
import { TwinpathError } from '../errors.ts';
import { printable, printableLines } from '../printable.ts';

/** A line of a result: a list of a machine's interfaces may well be long. */
const MAX_LINE = 16_000;

type Style = Parameters<typeof styleText>[0];

export class Terminal {
  /** Whether a person watches standard error. */
  readonly live: boolean = process.stderr.isTTY === true;
  readonly #colourful: boolean;
  readonly #write = process.stdout.write.bind(process.stdout);
  #panel: readonly string[] = [];

  constructor() {
    process.stdout.on('error', () => {}); // `print` hears of it by its callback
    process.stderr.on('error', () => {});
    this.#colourful = this.live && !process.env.NO_COLOR && process.stderr.hasColors();
  }

  /**
   * Keeps standard output for results: what a handler writes there by `console.log`, in whatever thread, goes
   * to standard error from now on.
   */
  reserveStdout(): void {
    // Always true: the streams of worker threads would wait for a 'drain' here that comes at stderr.
    process.stdout.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      process.stderr.write(chunk, ...(rest as []));
      return true;
    };
  }

  /** Prints a result for people, of however many lines. @throws ERR_OUTPUT */
  print(text: string): Promise<void> {
    return this.#result(printableLines(text, MAX_LINE));
  }

  /** Prints a result for programs, exactly. @throws ERR_OUTPUT */
  printJson(value: unknown, indent?: number): Promise<void> {
    return this.#result(JSON.stringify(value, null, indent));
  }

  async #result(text: string): Promise<void> {
    const error = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) => {
      this.#write(text.endsWith('\n') ? text : `${text}\n`, (failure) => resolve(failure));
    });
    if (!error || error.code === 'EPIPE') return;
    throw new TwinpathError('ERR_OUTPUT', { detail: error.message });
  }

  /** Lines for whoever watches; a panel stays below them. */
  log(...lines: readonly string[]): void {
    this.#erase();
    for (const line of lines) process.stderr.write(`${printable(line)}\n`);
    this.#draw();
  }

  /** Shows these lines in place of the last panel. Nothing where nobody watches. */
  panel(lines: readonly string[]): void {
    if (!this.live) return;
    this.#erase();
    const width = process.stderr.columns || 80;
    // A wrapped line would take two rows, and the next erasure one too few.
    this.#panel = lines.map((line) => {
      const bare = stripVTControlCharacters(line);
      return bare.length < width ? line : printable(bare.slice(0, width - 1));
    });
    this.#draw();
  }

  /** For panels; `log` and `print` would show the codes. */
  style(style: Style, text: string): string {
    const fit = printable(text);
    return this.#colourful ? styleText(style, fit) : fit;
  }

  #erase(): void {
    if (this.#panel.length > 0) process.stderr.write(`\x1b[${this.#panel.length}F\x1b[J`);
  }

  #draw(): void {
    if (this.#panel.length > 0) process.stderr.write(`${this.#panel.join('\n')}\n`);
  }
}
