/**
 * A flame graph as one SVG, without scripts and without fonts or files from elsewhere: it shows wherever an image does.
 *
 * Threads are side by side on the bottom line, calls on top of their callers; the width is the share of all samples. Frames
 * that are too narrow to be seen are left out, with everything above them. Pure.
 */
import type { Kind, Stack } from './perf-script.ts';

export interface Node {
  readonly name: string;
  readonly kind: Kind | 'thread';
  /** Samples in it and in what it calls. */
  total: number;
  readonly children: Map<string, Node>;
}

/** A rectangle of the drawing, in pixels from the left and levels from the bottom. */
export interface Box {
  readonly node: Node;
  readonly x: number;
  readonly width: number;
  readonly level: number;
}

export interface Drawing {
  readonly title: string;
  /** One line below it: machine, load, versions. */
  readonly subtitle: string;
  readonly stacks: readonly Stack[];
}

export const KINDS: Readonly<Record<Kind, { readonly label: string; readonly colour: string }>> = {
  kernel: { label: 'kernel', colour: '#f0a35e' },
  javascript: { label: 'JavaScript', colour: '#f2d957' },
  wasm: { label: 'WebAssembly', colour: '#b79df0' },
  engine: { label: 'V8 and node', colour: '#9cc7ee' },
  native: { label: 'native', colour: '#a5d6a0' },
};
const THREAD_COLOUR = '#d7d9dd';

const WIDTH = 1200;
const MARGIN = 10;
const ROW = 17;
const HEAD = 76;
const MIN_WIDTH = 1.2;
/** Of the 11 px sans-serif letters, rounded up. */
const LETTER = 6.4;

export function treeOf(stacks: readonly Stack[]): Node {
  const root = made('all', 'thread');
  for (const { thread, frames, count } of stacks) {
    root.total += count;
    let at = child(root, thread, 'thread');
    at.total += count;
    for (const { name, kind } of frames) {
      at = child(at, name, kind);
      at.total += count;
    }
  }
  return root;
}

/** Where each frame is drawn: the widest callee first, the same picture for the same samples. */
export function layOut(root: Node, width: number, least: number): readonly Box[] {
  const boxes: Box[] = [];
  const scale = root.total === 0 ? 0 : width / root.total;
  const place = (node: Node, x: number, level: number): void => {
    let left = x;
    const children = [...node.children.values()].sort(
      (a, b) => b.total - a.total || (a.name < b.name ? -1 : 1),
    );
    for (const one of children) {
      const wide = one.total * scale;
      if (wide < least) break; // those that follow are narrower still
      boxes.push({ node: one, x: left, width: wide, level });
      place(one, left, level + 1);
      left += wide;
    }
  };
  place(root, 0, 0);
  return boxes;
}

export const sampleCount = (stacks: readonly Stack[]): number =>
  stacks.reduce((sum, { count }) => sum + count, 0);

/** Samples by what the innermost frame is made of. */
export function shares(stacks: readonly Stack[]): Readonly<Record<Kind, number>> {
  const found: Record<Kind, number> = { kernel: 0, javascript: 0, wasm: 0, engine: 0, native: 0 };
  for (const { frames, count } of stacks) found[frames.at(-1)?.kind ?? 'native'] += count;
  return found;
}

export function flameGraph({ title, subtitle, stacks }: Drawing): string {
  const root = treeOf(stacks);
  const boxes = layOut(root, WIDTH - 2 * MARGIN, MIN_WIDTH);
  const levels = Math.max(0, ...boxes.map(({ level }) => level)) + 1;
  const height = HEAD + levels * ROW + MARGIN;
  const styles = Object.entries(KINDS).map(([kind, { colour }]) => `.${kind}{fill:${colour}}`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>text{font:11px Verdana,'DejaVu Sans',sans-serif;fill:#1b1b1b}${styles.join('')}.thread{fill:${THREAD_COLOUR}}rect{stroke:#fff;stroke-width:.6}</style>`,
    `<rect width="${WIDTH}" height="${height}" style="fill:#fff"/>`,
    `<text x="${MARGIN}" y="22" style="font-size:16px;font-weight:bold">${escaped(title)}</text>`,
    `<text x="${MARGIN}" y="40">${escaped(subtitle)}</text>`,
    ...legend(stacks, root.total),
    ...boxes.map((box) => drawn(box, root.total, height)),
    '</svg>\n',
  ].join('\n');
}

function legend(stacks: readonly Stack[], total: number): readonly string[] {
  const found = shares(stacks);
  let x = MARGIN;
  return (Object.keys(KINDS) as Kind[])
    .filter((kind) => found[kind] > 0)
    .map((kind) => {
      const label = `${KINDS[kind].label} ${percent(found[kind], total)}`;
      const text = `<rect class="${kind}" x="${x}" y="50" width="12" height="12"/><text x="${x + 17}" y="60">${label}</text>`;
      x += 17 + Math.ceil(label.length * LETTER) + 20;
      return text;
    });
}

function drawn({ node, x, width, level }: Box, total: number, height: number): string {
  const top = height - MARGIN - (level + 1) * ROW;
  const left = round(MARGIN + x);
  const letters = Math.floor((width - 5) / LETTER);
  const label = `${node.name}${node.kind === 'thread' ? `, ${percent(node.total, total)}` : ''}`;
  const shown = label.length <= letters ? label : `${label.slice(0, letters - 1)}…`;
  const text =
    letters < 3 ? '' : `<text x="${round(MARGIN + x + 3)}" y="${top + 12}">${escaped(shown)}</text>`;
  const hover = `<title>${escaped(node.name)}: ${percent(node.total, total)}</title>`;
  return `<g>${hover}<rect class="${node.kind}" x="${left}" y="${top}" width="${round(width)}" height="${ROW}"/>${text}</g>`;
}

function child(parent: Node, name: string, kind: Node['kind']): Node {
  const key = `${kind} ${name}`;
  const known = parent.children.get(key);
  if (known !== undefined) return known;
  const node = made(name, kind);
  parent.children.set(key, node);
  return node;
}

const made = (name: string, kind: Node['kind']): Node => ({
  name,
  kind,
  total: 0,
  children: new Map(),
});

export const percent = (part: number, whole: number): string => {
  const value = whole === 0 ? 0 : (100 * part) / whole;
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
};

const round = (pixels: number): number => Math.round(pixels * 10) / 10;

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
