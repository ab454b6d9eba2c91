/**
 * Text that others have written, made fit for a terminal: names of interfaces, files and options, messages of
 * handlers. A control character in it would be obeyed (an interface may be called "\x1b[2J"), an invisible one or one
 * that turns the direction of writing would show something else than there is. Pure.
 */

/** Of one line. A message that is longer is cut in its middle: its hint is at its end. */
const MAX = 2_000;

/** Unicode's category Other (controls, formats, bidirectional marks, lone surrogates …), line and paragraph separators. */
const UNFIT = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** One line, at most `most` characters and the words for what is left out. */
export function printable(text: string, most = MAX): string {
  if (text.length <= most) return escaped(text);
  const head = Math.ceil((most * 2) / 3);
  const tail = text.slice(text.length - (most - head));
  const left = text.length - most;
  return `${escaped(text.slice(0, head))} … (${left.toLocaleString('en')} characters left out) … ${escaped(tail)}`;
}

/** The same but for its newlines: each line is looked at by itself. */
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
