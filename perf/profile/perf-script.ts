/**
 * The output of `perf script`, folded: each stack once, with how often it was seen. Pure.
 *
 * Lines as of `perf script -F comm,pid,tid,ip,sym,dso`: one that begins in the first column opens a sample and names its
 * thread, indented ones are its frames, innermost first, and an empty line closes it.
 */

import type { Place } from './sources.ts';

type PlaceOf = (place: Place) => Place;

/** What a frame is made of. */
export type Kind = 'kernel' | 'javascript' | 'wasm' | 'engine' | 'native';

export interface Frame {
  readonly name: string;
  readonly kind: Kind;
}

/** A stack, outermost frame first, of one thread. */
export interface Stack {
  readonly thread: string;
  readonly frames: readonly Frame[];
  readonly count: number;
}

const HEAD = /^(\S.*?)\s+(\d+)\/(\d+)/;
const FRAME = /^\s+([0-9a-f]+) (.+) \(([^()]*(?:\([^()]*\))?[^()]*)\)$/;
/** Between the thread's name, the kind and the name of a frame, which have no tabs. */
const TAB = '\t';

export class Folder {
  readonly #pid: number;
  readonly #placeOf: PlaceOf;
  readonly #stacks = new Map<string, number>();
  #rest = '';
  #thread: string | undefined;
  #frames: Frame[] = [];

  /**
   * @param pid the process. Of others only the kernel's softirq threads are kept, which may work for it
   * @param placeOf where a function of a bundle is from
   */
  constructor(pid: number, placeOf: PlaceOf = (place) => place) {
    this.#pid = pid;
    this.#placeOf = placeOf;
  }

  /** Any piece of the output. */
  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  /** All of it has been pushed. Most frequent first. */
  end(): readonly Stack[] {
    this.#line(this.#rest);
    this.#line('');
    return [...this.#stacks]
      .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
      .map(([key, count]) => {
        const [thread, ...fields] = key.split(TAB);
        const frames = fields.map((field) => {
          const colon = field.indexOf(':');
          return { kind: field.slice(0, colon) as Kind, name: field.slice(colon + 1) };
        });
        return { thread: thread!, frames, count };
      });
  }

  #line(line: string): void {
    if (line.trim() === '') {
      this.#close();
      return;
    }
    if (!/^\s/.test(line)) {
      this.#close();
      this.#thread = threadOf(line, this.#pid);
      return;
    }
    const frame = this.#thread === undefined ? undefined : frameOf(line, this.#placeOf);
    if (frame !== undefined) this.#frames.unshift(frame);
  }

  #close(): void {
    if (this.#thread !== undefined) {
      const key = [this.#thread, ...collapse(this.#frames).map(({ kind, name }) => `${kind}:${name}`)].join(
        TAB,
      );
      this.#stacks.set(key, (this.#stacks.get(key) ?? 0) + 1);
    }
    this.#thread = undefined;
    this.#frames = [];
  }
}

/** The thread of a sample; undefined if the sample is left out. */
function threadOf(line: string, pid: number): string | undefined {
  const [, comm, process, tid] = HEAD.exec(line) ?? [];
  if (comm === undefined) return undefined;
  if (comm.startsWith('ksoftirqd/')) return 'ksoftirqd';
  if (Number(process) !== pid) return undefined;
  if (process === tid) return 'main';
  // Threads that node does not name: V8's compilers and collectors, libuv's pool, and a worker before its name is set.
  return comm === 'node' || comm.startsWith('libuv') || comm.startsWith('V8') ? 'node threads' : comm;
}

/** @param line indented: address, symbol, object */
export function frameOf(line: string, placeOf: PlaceOf = (place) => place): Frame | undefined {
  const [, , symbol, object] = FRAME.exec(line) ?? [];
  if (symbol === undefined || object === undefined) return undefined;
  if (/\/perf-\d+\.map$/.test(object)) return compiledFrame(symbol, placeOf);
  if (
    /^\[(?!unknown|vdso|heap|stack|anon)/.test(object) ||
    object.endsWith('.ko') ||
    object.startsWith('bpf_')
  )
    return { kind: 'kernel', name: symbol };
  if (symbol === '[unknown]') return undefined; // an address that an omitted frame pointer left
  if (/\/node$/.test(object)) return { kind: 'engine', name: shortCpp(symbol) };
  return { kind: 'native', name: shortCpp(symbol) };
}

/** A symbol of V8's map: 'JS:*poll file:///…/port-queue.js:120:7' ('*' optimized, '^' baseline, '~' interpreted). */
function compiledFrame(symbol: string, placeOf: PlaceOf): Frame | undefined {
  if (/wasm/i.test(symbol.split(' ')[0]!)) {
    return { kind: 'wasm', name: symbol.replace(/^(?:JS|Function):[*^~+]?/, '') };
  }
  const [, name = '', place = ''] =
    /^(?:JS|LazyCompile|Function|Script|Eval):[*^~+]?(\S*) ?(.*)$/.exec(symbol) ?? [];
  if (name === '' && place === '') {
    return symbol === '[unknown]' ? undefined : { kind: 'engine', name: symbol };
  }
  if (place.startsWith('node:')) return { kind: 'engine', name: `${name} ${place.replace(/:\d+$/, '')}` };
  const [, url, line, column] = /^(.*):(\d+):(\d+)$/.exec(place) ?? [];
  const source = url && placeOf({ url, line: Number(line) - 1, column: Number(column) - 1 });
  const at = source ? `${source.url}:${source.line + 1}` : place.replace(/:\d+$/, '');
  const file = at.slice(at.lastIndexOf('/') + 1);
  return { kind: 'javascript', name: `${name === '' ? '(anonymous)' : name} ${file}`.trim() };
}

/** Without the arguments of templates and functions, which are too long to show. */
function shortCpp(symbol: string): string {
  let short = symbol.replace(/@@?[\w.]+$/, '').replace(/^Builtins_/, '');
  for (let before = ''; before !== short; ) {
    before = short;
    short = short.replace(/<[^<>]*>/g, '').replace(/(?<=\w)\([^()]*\)(?: const)?/g, '');
  }
  return short.replaceAll('(anonymous namespace)::', '').replaceAll('v8::internal::', 'v8::');
}

/** The functions with which libc starts a thread or a process. */
const START = /^(?:_start|__clone3?|clone3?|start_thread|__libc_start_\w+)$/;

/** Of several frames of V8 and node in a row, the innermost one. The outermost frame is called node. */
function collapse(frames: readonly Frame[]): readonly Frame[] {
  const begun = frames.filter(({ kind, name }) => kind !== 'native' || !START.test(name));
  const kept = begun.filter(({ kind }, i) => kind !== 'engine' || begun[i + 1]?.kind !== 'engine');
  const [first, ...others] = kept;
  return first?.kind === 'engine' && others.length > 0 ? [{ kind: 'engine', name: 'node' }, ...others] : kept;
}
