/** The colours of page.css for what is drawn on a canvas, and how each path is told from the others without them. */
import type { Owner, PathKey } from '../messages.ts';

export interface Theme {
  readonly text: string;
  readonly muted: string;
  readonly grid: string;
  readonly panel: string;
  readonly marker: string;
  readonly paths: Readonly<Record<Owner, string>>;
  /** Text on a block of that colour. */
  readonly on: Readonly<Record<Owner, string>>;
}

export const PATH_LABEL: Readonly<Record<Owner, string>> = {
  vf: 'VF',
  synthetic: 'synthetic',
  host: 'machine',
  none: 'none',
};

/** Of lines: none, so a solid one, long dashes, dots. */
export const DASHES: Readonly<Record<PathKey, number[]>> = { vf: [], synthetic: [7, 4], host: [2, 3] };

export function readTheme(): Theme {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const of = (suffix: string): Record<Owner, string> => ({
    vf: colour(`vf${suffix}`),
    synthetic: colour(`synthetic${suffix}`),
    host: colour(`host${suffix}`),
    none: colour(`none${suffix}`),
  });
  return {
    text: colour('text'),
    muted: colour('muted'),
    grid: colour('grid'),
    panel: colour('panel'),
    marker: colour('marker'),
    paths: of(''),
    on: of('-on'),
  };
}
