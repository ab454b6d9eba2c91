/** V8's CPU profiles, one for each thread: which thread it is, and which functions took its time. Pure. */
import type { Place } from './sources.ts';

/** The parts of a .cpuprofile that are used. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: {
      readonly functionName: string;
      readonly url: string;
      /** From 0, as the column. */
      readonly lineNumber: number;
      readonly columnNumber?: number;
    };
  }[];
  /** Node of each sample. */
  readonly samples?: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas?: readonly number[];
}

export interface FunctionTime {
  /** 'poll port-queue.js:120', or what V8 calls a state: '(garbage collector)'. */
  readonly name: string;
  readonly millis: number;
  /** Of the thread's time, 0 to 1. */
  readonly share: number;
}

export interface ThreadSummary {
  readonly thread: string;
  readonly millis: number;
  /** Longest self time first. */
  readonly functions: readonly FunctionTime[];
}

/** Files that run in one kind of thread only. */
const ENTRIES: readonly (readonly [RegExp, string])[] = [
  [/\/workers\/queue\.[jt]s$/, 'queue-worker'],
  [/\/workers\/supervisor\.[jt]s$/, 'supervisor'],
  [/\/workers\/coordinator\.[jt]s$/, 'coordinator'],
  [/\/workers\/(?:memory-)?traffic\.[jt]s$/, 'traffic'],
];

/** The thread of a file that node has named `CPU.<date>.<time>.<pid>.<thread>.<number>.cpuprofile`; undefined of others. */
export function threadIdOf(file: string): number | undefined {
  const id = /^CPU\.\d+\.\d+\.\d+\.(\d+)\.\d+\.cpuprofile$/.exec(file)?.[1];
  return id === undefined ? undefined : Number(id);
}

/** A name for a thread, by the file that it was started with. */
function threadName(profile: CpuProfile, threadId: number): string {
  if (threadId === 0) return 'main';
  for (const [pattern, name] of ENTRIES) {
    if (profile.nodes.some(({ callFrame }) => pattern.test(callFrame.url))) return name;
  }
  return `thread-${threadId}`;
}

/** A name for each thread, in the order of their ids; several threads of one kind are numbered. */
export function threadNames(profiles: ReadonlyMap<number, CpuProfile>): ReadonlyMap<number, string> {
  const ids = [...profiles.keys()].sort((a, b) => a - b);
  const kinds = ids.map((id) => threadName(profiles.get(id)!, id));
  const names = kinds.map((kind, i) => {
    const same = (others: readonly string[]): number => others.filter((other) => other === kind).length;
    return same(kinds) > 1 ? `${kind}-${same(kinds.slice(0, i)) + 1}` : kind;
  });
  return new Map(ids.map((id, i) => [id, names[i]!]));
}

/** The profile with every function where its module has it, and not where the bundle of its thread does. */
export function inSources(profile: CpuProfile, placeOf: (place: Place) => Place): CpuProfile {
  const nodes = profile.nodes.map((node) => {
    const { url, lineNumber, columnNumber = 0 } = node.callFrame;
    const place = placeOf({ url, line: lineNumber, column: columnNumber });
    const { line, column } = place;
    return {
      ...node,
      callFrame: { ...node.callFrame, url: place.url, lineNumber: line, columnNumber: column },
    };
  });
  return { ...profile, nodes };
}

/** Self time by function: the sum of the times before its samples. */
export function summarize(profile: CpuProfile, thread: string): ThreadSummary {
  const { nodes, samples = [], timeDeltas = [] } = profile;
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const micros = new Map<string, number>();
  let total = 0;
  samples.forEach((id, i) => {
    const delta = Math.max(0, timeDeltas[i] ?? 0); // V8's clock steps back between cores now and then
    const name = names.get(id) ?? '(unknown)';
    micros.set(name, (micros.get(name) ?? 0) + delta);
    total += delta;
  });
  const functions = [...micros]
    .map(([name, time]) => ({ name, millis: time / 1000, share: total === 0 ? 0 : time / total }))
    .sort((a, b) => b.millis - a.millis || (a.name < b.name ? -1 : 1));
  return { thread, millis: total / 1000, functions };
}

function nameOf({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const file = url.startsWith('node:') ? url : url.slice(url.lastIndexOf('/') + 1);
  return `${name} ${file}:${lineNumber + 1}`;
}
