/** Pictures of terminals for the documentation. */
import { readFileSync } from 'node:fs';
import { parseHTML } from 'linkedom';
import { expect, it } from 'vitest';
import { terminalSvg } from '../../../perf/pictures/terminal-svg.ts';

/** The lines of a picture, with their indentation, as far as it can be seen. */
function linesOf(svg: string): { title: string; lines: string[]; height: number } {
  const { document } = parseHTML(svg);
  const [title, ...lines] = [...document.querySelectorAll('text')].map(({ textContent }) => textContent!);
  return { title: title!, lines, height: Number(document.querySelector('svg')!.getAttribute('height')) };
}

it('a picture has each line of the screen, whatever characters are in it', () => {
  const svg = terminalSvg(['a < b & "c"', '', '   indented \x1b'], 80, 'top');
  expect(linesOf(svg)).toMatchObject({ title: 'top', lines: ['a < b & "c"', 'indented'] });
  expect(linesOf(terminalSvg(Array(24).fill('x'), 80, 'top')).height).toBeGreaterThan(24 * 13);
});

it('the picture of `twinpath top` in the documentation has what `top` shows', () => {
  const { lines } = linesOf(readFileSync(new URL('../../../docs/pictures/top.svg', import.meta.url), 'utf8'));
  for (const words of [
    /^eth0 {2}process \d+/,
    /^queue +owner/,
    /^vf /,
    /^synthetic /,
    /^drops\/s: /,
    /vf → synthetic/,
  ])
    expect(lines).toContainEqual(expect.stringMatching(words));
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(80);
});
