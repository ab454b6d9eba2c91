/** A screen of text as an SVG picture, which needs no font that a reader may not have. Pure. */

const FONT_SIZE = 13;
/** Of one character: most monospaced fonts are this wide, and `textLength` sets the others right. */
const ADVANCE = 7.8;
const LINE = 17;
const MARGIN = 14;
const BAR = 26;

/**
 * @param lines of the screen; control characters are left out
 * @param columns of the terminal
 */
export function terminalSvg(lines: readonly string[], columns: number, title: string): string {
  const width = Math.ceil(columns * ADVANCE + 2 * MARGIN);
  const height = BAR + lines.length * LINE + 2 * MARGIN;
  const rows = lines.flatMap((line, row) => {
    const text = line.replace(/\p{Cc}/gu, '').trimEnd();
    if (text === '') return [];
    const indent = text.length - text.trimStart().length;
    const x = (MARGIN + indent * ADVANCE).toFixed(1);
    const y = BAR + MARGIN + row * LINE + FONT_SIZE;
    const length = ((text.length - indent) * ADVANCE).toFixed(1);
    const place = `x="${x}" y="${y}" textLength="${length}"`;
    return [
      `<text ${place} lengthAdjust="spacingAndGlyphs" xml:space="preserve">${escaped(text.trimStart())}</text>`,
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">`,
    `<rect width="${width}" height="${height}" rx="8" fill="#1b1f24"/>`,
    '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace">',
    `<text x="${width / 2}" y="18" text-anchor="middle" font-size="12" fill="#8b949e">${escaped(title)}</text>`,
    `<g font-size="${FONT_SIZE}" fill="#e6edf3">`,
    ...rows,
    '</g>',
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}

function escaped(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!,
  );
}
