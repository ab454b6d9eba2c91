/**
 * A plot as an SVG file that stands alone, readable on a white and on a black page.
 *
 * Drawn by Observable Plot over linkedom's document: no browser, no script in the file.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** Of text and axes: grey enough for either page. */
export const INK = '#808890';
/** Told apart by those who do not see colours too, by their lightness. */
export const COLOURS = {
  good: '#2e7d4f',
  bad: '#c0392b',
  first: '#2463a6',
  second: '#d08a00',
  third: '#7a9e9f',
} as const;

export function svg(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<html><body></body></html>');
  const drawn = Plot.plot({
    ...{ width: 760, document: document as unknown as NonNullable<Plot.PlotOptions['document']> },
    ...options,
    style: { background: 'none', color: INK, fontFamily: 'system-ui, sans-serif', fontSize: '12px' },
    figure: false,
  });
  drawn.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${drawn.outerHTML}\n`;
}
