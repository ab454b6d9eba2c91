/**
 * Escapes text from outside for a terminal: names of interfaces, files and options, messages of handlers. The terminal would
 * execute a control character (an interface may be named "\x1b[2J"). Invisible characters, and those that change the
 * direction of writing, would display something else than the text is. Pure.
 */

/** Characters of a line. A longer message is cut in its middle, because its hint is at its end. */
const MAX = 2_000;

/** Unicode's category Other (controls, formats, bidirectional marks, lone surrogates …), line and paragraph separators. */
const UNFIT = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** One line, of at most `most` characters plus a note about the omitted ones. */
export function printable(text: string, most = MAX): string {
  if (text.length <= most) return escaped(text);
  const head = Math.ceil((most * 2) / 3);
  const tail = text.slice(text.length - (most - head));
  const left = text.length - most;
  return `${escaped(text.slice(0, head))} … (${left.toLocaleString('en')} characters left out) … ${escaped(tail)}`;
}

/** The same for a text of several lines: each line is processed by itself. */
export function printableLines(text: string, most?: number): string {
  return text
    .split('\n')
    .map((line) => printable(line, most))
    .join('\n');
}

function escaped(text: string): string {
  return text.replace(UNFIT, (character) => {
    const code = character.codePointAt(0)!;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}
