/** The files of the live page, as `npm run build` makes them: its own, and uPlot's. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TwinpathError } from '../errors.ts';
import { packageRoot } from '../package-root.ts';

const FOLDER = join(packageRoot, 'dist/src/page/browser');

const TYPES = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
  txt: 'text/plain; charset=utf-8',
} as const;

/** By the name in the URL. A file that is not here does not exist, whatever a client asks for. */
const NAMES: Readonly<Record<string, string>> = {
  '': 'page.html',
  'page.css': 'page.css',
  'icon.svg': 'icon.svg',
  'uPlot.min.css': 'uPlot.min.css',
  'uPlot.iife.min.js': 'uPlot.iife.min.js',
  'uPlot.LICENSE.txt': 'uPlot.LICENSE.txt',
  ...Object.fromEntries(
    [
      'connection',
      'failover-list',
      'failover-zoom',
      'figures',
      'main',
      'owner-strip',
      'rate-chart',
      'spans',
      'store',
      'svg',
      'switches',
      'theme',
      'time-chart',
      'units',
    ].map((name) => [`${name}.js`, `${name}.js`]),
  ),
};

export interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
}

/** Reads them all: what the page is made of does not change while it is served. @throws ERR_START if one is missing */
export function readFiles(): ReadonlyMap<string, PageFile> {
  return new Map(
    Object.entries(NAMES).map(([name, file]) => {
      const ending = file.slice(file.lastIndexOf('.') + 1) as keyof typeof TYPES;
      return [name, { type: TYPES[ending], bytes: read(join(FOLDER, file)) }];
    }),
  );
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TwinpathError('ERR_START', {
      device: path,
      detail: (error as Error).message,
      hint: 'It is a part of the package, and in a clone npm run build makes it.',
    });
  }
}
